"""The pages under docs/ are programs, too: what they show runs, and what they name exists."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import pytest
from dramatiq import cli as dramatiq_cli
from uvicorn.main import main as uvicorn_command

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
NAMES = [str(page.relative_to(DOCS)) for page in PAGES]
RIVALS = ["celery", "rq", "dramatiq"]
PATIENCE_S = 30

OTHERS = {".", "cat", "curl", "pip", "pytest"}
"""Commands that are neither ours nor take options of ours."""


class Place:
    """A folder such as a reader has, and the programs that run in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._running: list[subprocess.Popen[bytes]] = []
        self._environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("POSTLUDE_")},
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)]),
            "POSTLUDE_DATA_DIR": str(folder / "var"),
        }

    def run(self, *command: str) -> str:
        """Run ``python -m command`` to its end and return what it printed."""
        done = subprocess.run(
            [sys.executable, "-W", "error", *command],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def fail(self, *command: str) -> str:
        """Run ``python command`` to its end, which must not be a good one; returns what it said."""
        done = subprocess.run(
            [sys.executable, *command],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode != 0, done.stdout
        return done.stderr

    def stop(self) -> int:
        """Press Ctrl-C in the terminal of the last program; returns its exit code."""
        program = self._running[-1]
        os.killpg(program.pid, signal.SIGINT)
        return program.wait(PATIENCE_S)

    def start(self, name: str, *command: str, ready: str, **variables: str) -> str:
        """Start ``python -m command``; returns what it has logged when ``ready`` is there."""
        log = self.folder / f"{name}.log"
        with log.open("wb") as output:
            program = subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=self.folder,
                env={**self._environment, **variables},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._running.append(program)
        until(lambda: ready in log.read_text() or program.poll() is not None)
        assert program.poll() is None, log.read_text()
        return log.read_text()

    def end(self) -> None:
        for program in self._running:
            if program.poll() is None:
                os.killpg(program.pid, signal.SIGKILL)
                program.wait(10)


@pytest.fixture
def place(tmp_path):
    place = Place(tmp_path)
    yield place
    place.end()


def until(condition):
    deadline = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
    return found


def snippets(name: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (DOCS / name).read_text(), re.DOTALL)


def commands() -> list[str]:
    """Return every command line that the guides show, without the variables before it."""
    guides = "\n".join(page.read_text() for page in PAGES if "decisions" not in page.parts)
    blocks = re.findall(r"```console\n(.*?)```", guides, re.DOTALL)
    typed = re.findall(r"^\$ (.*)$", "".join(blocks), re.MULTILINE)
    named = re.findall(r"`((?:dramatiq|postlude|uvicorn|python -m) [^`\n]+)`", guides)
    return sorted({re.sub(r"^([A-Z_]+=\S+ )+", "", line) for line in [*typed, *named]})


# --- what they show runs


def test_every_snippet_is_run_by_a_test_here():
    with_snippets = {name for name in NAMES if snippets(name)}

    assert with_snippets == {
        "tutorial.md",
        "your-own-tables.md",
        "isolation.md",
        "coming-from/backgroundtasks.md",
        *(f"coming-from/{rival}.md" for rival in RIVALS),
    }


def test_the_tutorial_is_an_app_that_passes_its_own_tests(place):
    write_files("tutorial.md", place.folder)

    printed = place.run("-m", "pytest", "-q", "-p", "no:cacheprovider", "test_shop.py")

    assert "2 passed" in printed
    assert not (place.folder / "var").exists()


def test_the_tutorials_app_runs_with_its_worker_and_its_schedule(place):
    write_files("tutorial.md", place.folder)
    place.run("-m", "postlude.cli", "migrate")
    place.start("worker", "dramatiq", "shop", "-p", "1", "-t", "4", ready="worker.ready")
    place.start("scheduler", "postlude.cli", "scheduler", "shop", ready="scheduler.started")
    log = place.start("app", "uvicorn", "shop:app", "--port", "0", ready="running on")
    url = re.search(r"running on (http://\S+)", log)[1]
    order = "6f1c2c3e-0000-4000-8000-000000000001"

    with httpx2.Client(base_url=url) as client:

        def settled(path):
            task = client.post(path).json()["task"]
            return until(
                lambda: (
                    (found := client.get(f"/tasks/{task}").json())["state"]
                    in {"succeeded", "failed"}
                    and found
                )
            )

        receipt = settled("/orders/7?email=ada@example.com")
        charged = settled(f"/orders/{order}/charge?amount=5.50")
        refused = settled(f"/orders/{order}/charge?amount=5000")
        later = client.post("/orders/8/remind?email=ada@example.com").json()["task"]
        reminder = client.get(f"/tasks/{later}").json()
        nothing = client.get("/tasks/nothing").status_code

    assert receipt["state"] == "succeeded"
    text = (place.folder / "receipts" / "7.txt").read_text()
    assert text in (DOCS / "tutorial.md").read_text()
    assert charged == {"state": "succeeded", "result": f"charged 5.50 for {order}"}
    assert refused["state"] == "failed"
    assert reminder["state"] in {"accepted", "scheduled"}
    assert nothing == 404
    ticked = re.compile(r"schedule\.ticked.*count_receipts|count_receipts.*schedule\.ticked")
    until(lambda: ticked.search((place.folder / "scheduler.log").read_text()))


def test_the_tutorials_app_runs_in_one_terminal(place):
    write_files("tutorial.md", place.folder)

    log = place.start(
        "run", "postlude.cli", "run", "shop:app", ready="stack.ready", POSTLUDE_PORT="0"
    )

    url = re.search(r"http://127\.0\.0\.1:\d+", log)[0]
    with httpx2.Client(base_url=url) as client:
        task = client.post("/orders/7?email=ada@example.com").json()["task"]
        until(lambda: client.get(f"/tasks/{task}").json()["state"] == "succeeded")
    until(lambda: "schedule.ticked" in (place.folder / "run.log").read_text())
    assert place.stop() == 0


def test_an_app_that_is_not_there_is_named(place):
    said = place.fail("-m", "postlude.cli", "run", "nowhere:app")

    assert "No module named 'nowhere'" in said


def test_orders_and_their_tasks_are_stored_together_by_an_app_that_passes_its_own_tests(place):
    write_files("your-own-tables.md", place.folder)

    printed = place.run("-m", "pytest", "-q", "-p", "no:cacheprovider", "test_orders.py")

    assert "1 passed" in printed
    assert not (place.folder / "var").exists()


def test_the_orders_of_that_app_are_greeted_by_its_worker(place):
    write_files("your-own-tables.md", place.folder)
    page = (DOCS / "your-own-tables.md").read_text()
    (make_tables,) = re.findall(r'^\$ python -c "(import orders.*)"$', page, re.MULTILINE)
    place.run("-m", "postlude.cli", "migrate")
    place.run("-c", make_tables)
    place.start("worker", "dramatiq", "orders", "-p", "1", "-t", "2", ready="worker.ready")
    log = place.start("app", "uvicorn", "orders:app", "--port", "0", ready="running on")
    url = re.search(r"running on (http://\S+)", log)[1]

    with httpx2.Client(base_url=url) as client:
        sync = client.post("/orders?email=ada@example.com").json()
        alike = client.post("/orders/async?email=bob@example.com").json()
        simply = client.post("/orders/simply?email=eve@example.com")

    assert (sync["order"], alike["order"], simply.status_code) == (1, 2, 201)
    result = "import sys, postlude; print(postlude.TaskHandle(sys.argv[1]).get_result(block=True))"
    assert place.run("-c", result, sync["task"]).strip() == "welcome, ada@example.com"
    assert place.run("-c", result, alike["task"]).strip() == "welcome, bob@example.com"


def test_alembic_keeps_tables_beside_the_ledger_as_that_page_says(place):
    write_files("your-own-tables.md", place.folder)
    (place.folder / "versions").mkdir()
    (place.folder / "script.py.mako").write_text(ALEMBIC_SCRIPT)
    (place.folder / "alembic.ini").write_text(
        "[alembic]\nscript_location = .\npath_separator = os\n"
    )
    place.run("-m", "postlude.cli", "migrate")

    place.run("-m", "alembic", "revision", "--autogenerate", "-m", "orders")
    place.run("-m", "alembic", "upgrade", "head")

    (revision,) = (place.folder / "versions").glob("*.py")
    assert "drop_table('postlude" not in revision.read_text()
    look = "import orders, sqlalchemy; print(sqlalchemy.inspect(orders.engine).has_table('orders'))"
    assert place.run("-c", look).strip() == "True"


ALEMBIC_SCRIPT = """
from alembic import op
import sqlalchemy as sa
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
def upgrade():
    ${upgrades if upgrades else "pass"}
def downgrade():
    ${downgrades if downgrades else "pass"}
"""


def write_files(page: str, folder: Path) -> None:
    """Write the files that a page's blocks name in their first lines, as a reader would."""
    for block in snippets(page):
        name = re.match(r"# (\w+\.py)\n", block)[1]
        with (folder / name).open("a") as file:
            file.write(f"{block}\n\n")


USE = """
from fastapi.testclient import TestClient
from postlude.testing import inline

client = TestClient(app)
with inline() as tasks:
    client.post("/send-notification/ada@example.com")
    client.get("/search?q=x")
    client.get("/by-hand")
print([task.arguments["email"] for task in tasks.ran])
"""


def test_who_comes_from_backgroundtasks_finds_the_same_app(place):
    program = "\n".join([*snippets("coming-from/backgroundtasks.md"), USE])

    printed = place.run("-c", program)

    assert printed.strip() == "['ada@example.com', 'log@example.com', 'ada@example.com']"


@pytest.mark.parametrize("rival", RIVALS)
def test_who_comes_from_another_queue_finds_the_same_tasks(place, rival):
    page = (DOCS / "coming-from" / f"{rival}.md").read_text()
    (place.folder / "shop.py").write_text("\n".join(snippets(f"coming-from/{rival}.md")))
    (worker,) = re.findall(r"^\$ (dramatiq shop.*)$", page, re.MULTILINE)
    place.run("-m", "postlude.cli", "migrate")
    place.start("worker", *worker.split(), "-p", "1", ready="worker.ready")

    printed = place.run("-c", "import shop; print(shop.from_a_script())")

    assert "invoice 7" in printed
    if "in_steps" in page:
        assert "invoice 7" in place.run("-c", "import shop; print(shop.in_steps())")


PICTURES = """
import pictures
from dramatiq.results import ResultFailure

print(pictures.thumbnail.send("tree.png").get_result(block=True, timeout=20_000))
message = pictures.thumbnail.send_with_options(args=("evil.png",), max_retries=0)
try:
    message.get_result(block=True, timeout=20_000)
except ResultFailure as error:
    print(error)
"""


def test_the_isolated_actor_crashes_alone(place):
    (block,) = snippets("isolation.md")
    (place.folder / "pictures.py").write_text(block)
    place.run("-m", "postlude.cli", "migrate")
    place.start("worker", "dramatiq", "pictures", "-p", "1", ready="worker.ready")

    made, failed = place.run("-c", PICTURES).splitlines()

    assert made == "small tree.png"
    assert "ChildDied" in failed
    assert "SIGSEGV" in failed


# --- what they name exists


@pytest.mark.parametrize("command", commands())
def test_every_command_exists_with_its_options(command):
    program, *arguments = shlex.split(command)
    match program, arguments:
        case "postlude", [name, *options]:
            names = [name, options.pop(0)] if name == "tasks" else [name]
            usage = _output("-m", "postlude.cli", *names, "--help")
            wanted = [option for option in options if option.startswith("-")]
            assert all(option in usage for option in wanted), usage
        case "dramatiq", _:
            dramatiq_cli.make_argument_parser().parse_args(arguments)
        case "uvicorn", _:
            uvicorn_command.make_context("uvicorn", list(arguments))
        case "python", ["-m", "venv", _] | ["-c", _]:
            pass
        case "python", ["-m", module]:
            assert (ROOT / module / "__main__.py").exists()
        case "make", [target, *_]:
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        case "export", _:
            assert all("=" in each for each in arguments)
        case _:
            assert program in OTHERS


def _output(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_that_is_named_exists(name):
    from postlude.settings import Settings

    known = {f"POSTLUDE_{field.upper()}" for field in Settings.model_fields}
    assert set(re.findall(r"POSTLUDE_[A-Z_]*[A-Z]", (DOCS / name).read_text())) <= known


def test_every_route_that_is_named_exists(place):
    pages = "".join(page.read_text() for page in PAGES)
    named = set(re.findall(r"GET (/v1/[^`\s?]*)", pages))
    program = "import json; from api import create_app; print(json.dumps(create_app().openapi()))"

    paths = json.loads(place.run("-c", program))["paths"]

    assert named
    assert {re.sub(r"\{\w+\}", "{}", path) for path in named} <= {
        re.sub(r"\{\w+\}", "{}", path) for path in paths
    }


@pytest.mark.parametrize("name", NAMES)
def test_every_link_leads_to_a_file_and_a_heading(name):
    page = DOCS / name
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text()):
        path, _, anchor = target.partition("#")
        file = (page.parent / path) if path else page
        assert file.exists(), target
        assert not anchor or anchor in _anchors(file), target


def _anchors(file: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


def test_the_index_lists_every_page():
    listed = set(re.findall(r"\]\(([^)]+)\)", (DOCS / "README.md").read_text()))
    pages = {name for name in NAMES if name != "README.md" and not name.startswith("decisions/0")}

    assert pages <= listed
