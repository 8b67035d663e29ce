"""The `postlude` command as a person types it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import postlude
from postlude.ledger.ledger import Ledger
from postlude.ledger.migrate import upgrade
from postlude.settings import load
from postlude.worker.incarnation import Incarnation

ROOT = Path(__file__).parents[2]


def run(*arguments, module="postlude.cli", **environment):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("POSTLUDE_")}
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env={**clean, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_it_tells_its_version():
    assert run("version").stdout.strip() == postlude.__version__


def test_help_names_every_command():
    done = run("--help")

    assert done.returncode == 0
    for command in (
        "run",
        "demo",
        "migrate",
        "health",
        "settings",
        "version",
        "tasks",
        "scheduler",
    ):
        assert f" {command} " in done.stdout


def test_help_loads_nothing_heavy():
    heavy = "{'sqlalchemy', 'fastapi', 'pydantic', 'alembic', 'apscheduler', 'pika'}"
    code = (
        f"import sys, postlude.cli.app; print({heavy} & {{m.split('.')[0] for m in sys.modules}})"
    )

    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)

    assert done.stdout.strip() == b"set()"


def test_settings_shows_what_is_in_force_and_no_secret(tmp_path):
    done = run(
        "settings",
        POSTLUDE_DATA_DIR=str(tmp_path),
        POSTLUDE_LEASE="7s",
        POSTLUDE_API_KEYS="operator:hush",
        POSTLUDE_MAIL_URL="smtp://me:hush@mail",
        POSTLUDE_BROKER_URL="amqp://me:hush@rabbit",
    )

    assert "POSTLUDE_LEASE=7s\n" in done.stdout
    assert f"POSTLUDE_DATABASE_URL=sqlite:///{tmp_path}/postlude.db\n" in done.stdout
    assert "POSTLUDE_BROKER_URL=amqp://me:***@rabbit\n" in done.stdout
    assert "hush" not in done.stdout


@pytest.mark.parametrize("command", ["run", "demo", "migrate", "settings"])
def test_a_bad_setting_stops_it_with_one_line_that_names_it(command, tmp_path):
    done = run(command, POSTLUDE_DATA_DIR=str(tmp_path), POSTLUDE_LEASE="soon")

    assert done.returncode == 1
    assert done.stderr.startswith("postlude: POSTLUDE_LEASE: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("variable", "value"), [("POSTLUDE_LEASE", "soon"), ("POSTLUDE_STORAGE_URL", "s3://x")]
)
@pytest.mark.parametrize(("module", "arguments"), [("uvicorn", ["api:app"]), ("scheduler", [])])
def test_a_bad_setting_stops_a_part_of_the_stack_with_such_a_line_too(
    module, arguments, variable, value, tmp_path
):
    done = run(*arguments, module=module, POSTLUDE_DATA_DIR=str(tmp_path), **{variable: value})

    assert done.returncode in {1, 2}
    told = [line for line in done.stderr.splitlines() if variable in line]
    assert len(told) == 1, done.stderr
    assert told[0].partition(": ")[2].startswith(variable)
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "postlude.db").exists()


def test_migrate_makes_the_ledger_and_may_run_twice(tmp_path):
    for _ in range(2):
        done = run("migrate", POSTLUDE_DATA_DIR=str(tmp_path / "new"))
        assert done.returncode == 0, done.stderr

    assert (tmp_path / "new" / "postlude.db").exists()


@pytest.mark.parametrize("command", ["run", "demo"])
def test_an_unwritable_folder_stops_it_before_anything_starts(command, tmp_path):
    (tmp_path / "var").write_text("in the way")

    done = run(command, POSTLUDE_DATA_DIR=str(tmp_path / "var"), POSTLUDE_PORT="0")

    assert done.returncode == 1
    assert "cannot be written" in done.stderr
    assert "role.started" not in done.stdout


def test_a_taken_port_stops_it_before_anything_starts(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        done = run("run", POSTLUDE_DATA_DIR=str(tmp_path), POSTLUDE_PORT=str(port))

    assert done.returncode == 1
    assert f"port {port} on 127.0.0.1 is taken" in done.stderr
    assert "role.started" not in done.stdout
    assert [path.name for path in tmp_path.rglob("*")] == ["run"]


def test_health_tells_whether_such_a_process_lives_here(tmp_path):
    settings = load(data_dir=tmp_path)
    upgrade(settings)
    absent = run("health", "worker", POSTLUDE_DATA_DIR=str(tmp_path))
    ledger = Ledger(settings)
    life = Incarnation(ledger, kind="worker", queues=[], version="1", folder=tmp_path / "run")

    alive = run("health", "worker", POSTLUDE_DATA_DIR=str(tmp_path), POSTLUDE_LEASE="1m")
    other = run("health", "scheduler", POSTLUDE_DATA_DIR=str(tmp_path), POSTLUDE_LEASE="1m")
    life.leave()
    ledger.close()

    assert (absent.returncode, alive.returncode, other.returncode) == (1, 0, 1)
    assert absent.stderr.startswith("postlude: no live worker on this machine")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("POSTLUDE_API_KEYS", "x"),
        ("POSTLUDE_MAIL_URL", "http://x"),
        ("POSTLUDE_ACTORS", "nope.module"),
    ],
)
def test_a_setting_that_only_the_application_can_judge_stops_it_too(tmp_path, variable, value):
    done = run("run", POSTLUDE_DATA_DIR=str(tmp_path), POSTLUDE_PORT="0", **{variable: value})

    assert done.returncode == 1
    assert done.stderr.startswith(f"postlude: {variable}")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "postlude.db").exists()
