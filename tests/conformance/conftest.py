"""A fleet: one ledger, one broker, as many real worker processes as a test starts and kills."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pika
import pytest
from sqlalchemy import text

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FOLDER = Path(mkdtemp(prefix="fleet"))
os.environ["FLEET_QUEUE"] = f"fleet{os.getpid()}"
os.environ["FLEET_JOURNAL"] = str(FOLDER / "journal")
sys.path.insert(0, str(HERE))

from postlude import process  # noqa: E402 - after the variables that the actors read
from postlude.ledger import migrate  # noqa: E402
from postlude.ledger.queries import incarnations  # noqa: E402
from postlude.ledger.queries import tasks as queries  # noqa: E402
from postlude.settings import load, settings  # noqa: E402

AMQP_URL = os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2F")
PATIENCE_S = 30
QUICK = {"POSTLUDE_HEARTBEAT": "200ms", "POSTLUDE_LEASE": "1500ms"}


@pytest.fixture(scope="session")
def actors():
    import fleet_actors

    yield fleet_actors
    shutil.rmtree(FOLDER, ignore_errors=True)


@pytest.fixture(scope="session")
def rabbit(actors):
    """The URL of a RabbitMQ that answers; its queues of this run are deleted afterwards."""
    parameters = pika.URLParameters(AMQP_URL)
    try:
        pika.BlockingConnection(parameters).close()
    except (pika.exceptions.AMQPError, OSError) as error:
        hint = "no RabbitMQ at AMQP_URL; get one with: apt-get install rabbitmq-server"
        if os.environ.get("REQUIRE_SERVICES"):
            pytest.fail(f"{hint} ({error!r})")
        pytest.skip(hint)
    yield AMQP_URL
    # A connection of its own: one that was idle since the start would have lost its heartbeat.
    connection = pika.BlockingConnection(parameters)
    for queue in (actors.QUEUE, actors.OTHER_QUEUE):
        connection.channel().queue_delete(f"postlude.{queue}")
    connection.close()


@pytest.fixture(scope="module", params=["ledger", "rabbitmq"])
def broker_url(request) -> str:
    """A further broker joins with a name here and a fixture that gives its URL."""
    return "" if request.param == "ledger" else request.getfixturevalue("rabbit")


@pytest.fixture
def fleet(broker_url, tmp_path, actors):
    """A fleet of the test's own, without workers."""
    with sailing(tmp_path, broker_url) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def crew_module() -> str:
    """What the crew's worker runs; a module of tests may have actors of its own."""
    return "fleet_actors"


@pytest.fixture(scope="module")
def flagship(broker_url, crew_module, tmp_path_factory, actors):
    with sailing(tmp_path_factory.mktemp("crew"), broker_url) as fleet:
        fleet.start(module=crew_module)
        yield fleet


@pytest.fixture
def crew(flagship):
    """A fleet with one worker, which the tests of a module share."""
    clear_journal()
    return flagship


@contextmanager
def sailing(folder, broker_url):
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("POSTLUDE_DATA_DIR", str(folder))
        monkeypatch.setenv("POSTLUDE_BROKER_URL", broker_url)
        _new_life()
        migrate.upgrade(load())
        clear_journal()
        fleet = Fleet(folder)
        try:
            yield fleet
        finally:
            fleet.end()
            process.close()
    _new_life()


def _new_life() -> None:
    process.close()
    settings.cache_clear()


def clear_journal() -> None:
    for leftover in FOLDER.iterdir():
        leftover.unlink()


class Fleet:
    """What a test sees of it: it starts and stops workers, reads the ledger and the journal."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.workers: list[subprocess.Popen[bytes]] = []

    def start(
        self, *options: str, threads: int = 4, module: str = "fleet_actors", **variables: str
    ) -> subprocess.Popen[bytes]:
        """Start ``dramatiq`` with one process and return when it is ready."""
        worker = self.launch(*options, threads=threads, module=module, **variables)
        path = self.folder / f"worker{len(self.workers) - 1}.log"
        self.until(lambda: b"worker.ready" in path.read_bytes() or worker.poll() is not None)
        assert worker.poll() is None, path.read_text()
        return worker

    def launch(
        self, *options: str, threads: int = 4, module: str = "fleet_actors", **variables: str
    ) -> subprocess.Popen[bytes]:
        """Start ``dramatiq`` with one process."""
        log = (self.folder / f"worker{len(self.workers)}.log").open("wb")
        program = str(Path(sys.executable).with_name("dramatiq"))
        command = [program, module, "-p", "1", "-t", str(threads)]
        environment = os.environ | {"PYTHONPATH": f"{HERE}{os.pathsep}{ROOT}"} | QUICK | variables
        with log:
            worker = subprocess.Popen(
                [*command, *options],
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.workers.append(worker)
        return worker

    def kill(self, worker: subprocess.Popen[bytes], number: int = signal.SIGKILL) -> None:
        """Send a signal to the worker and its children, at once.

        They are stopped when they cannot have the write lock, which they would keep.
        """
        if number == signal.SIGSTOP:
            process.current().ledger.write(lambda _tx: os.killpg(worker.pid, number))
            return
        os.killpg(worker.pid, number)
        if number == signal.SIGKILL:
            worker.wait(10)

    def stop(self, worker: subprocess.Popen[bytes]) -> int:
        """Ask the worker to stop, as a deploy does, and return its exit code."""
        worker.terminate()
        return worker.wait(PATIENCE_S)

    def wait(self, worker: subprocess.Popen[bytes]) -> None:
        """Return when the worker has died by itself."""
        self.until(lambda: worker.poll() is not None)

    def end(self) -> None:
        for worker in self.workers:
            if worker.poll() is None:
                os.killpg(worker.pid, signal.SIGCONT)
                os.killpg(worker.pid, signal.SIGKILL)
                worker.wait(10)

    def until(self, condition, patience_s: float = PATIENCE_S) -> Any:
        """Return what ``condition`` returns once that is true."""
        deadline = time.monotonic() + patience_s
        while not (found := condition()):
            assert time.monotonic() < deadline, f"it did not come to pass\n{self.logs()}"
            time.sleep(0.01)
        return found

    def logs(self) -> str:
        return "\n".join(path.read_text()[-3000:] for path in self.folder.glob("worker*.log"))

    def logged(self, word: str) -> int:
        """Return how often a worker has logged ``word``."""
        return sum(path.read_text().count(word) for path in self.folder.glob("worker*.log"))

    def beats(self, more: int) -> None:
        """Return when the workers' hearts have beaten so often: time in which they could have acted."""
        goal = self._heartbeats() + more
        self.until(lambda: self._heartbeats() >= goal)

    def _heartbeats(self) -> int:
        with process.current().ledger.read() as connection:
            return sum(view.heartbeat for view in incarnations.alive(connection))

    def view(self, message) -> queries.TaskView:
        with process.current().ledger.read() as connection:
            return queries.get(connection, message.message_id)

    def attempts(self, message) -> list[queries.AttemptView]:
        with process.current().ledger.read() as connection:
            return queries.attempts(connection, message.message_id)

    def ended(self, message) -> queries.TaskView:
        """Return the task once it is in a final state."""
        return self.until(lambda: (view := self.view(message)).finished_at and view)

    def count(self, where: str) -> int:
        with process.current().ledger.read() as connection:
            query = text(f"SELECT count(*) FROM postlude_tasks WHERE {where}")
            return connection.execute(query).scalar_one()

    def journal(self) -> list[str]:
        path = FOLDER / "journal"
        return path.read_text().split("\n")[:-1] if path.exists() else []

    def noted(self, word: str) -> None:
        """Return when an actor has noted ``word``."""
        self.until(lambda: word in self.journal())

    def let_go(self, word: str) -> None:
        """Let the actors that hold for ``word`` go on."""
        (FOLDER / word).touch()
