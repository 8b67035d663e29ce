"""What tests of the application share: it as processes, and a Redis that they stop and restart."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from tempfile import mkdtemp

import httpx2
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from postlude.ledger.migrate import upgrade
from postlude.settings import load

sys.path.insert(0, str(Path(__file__).parent))  # for what tests import from beside them

ROOT = Path(__file__).parents[2]
PATIENCE_S = 60
SERVE = """
import asyncio, uvicorn
from api import create_app
config = uvicorn.Config(create_app(), port=0, log_config=None, access_log=False)
server = uvicorn.Server(config)

async def main():
    serving = asyncio.create_task(server.serve())
    while not server.started:
        assert not serving.done()
        await asyncio.sleep(0.01)
    print(server.servers[0].sockets[0].getsockname()[1], flush=True)
    await serving

asyncio.run(main())
"""


@pytest.fixture(scope="session")
def blank(tmp_path_factory):
    """A migrated ledger that no process has open: copying it is quicker than migrating anew."""
    chosen = load(data_dir=tmp_path_factory.mktemp("blank"))
    upgrade(chosen)
    return chosen.data_dir / "postlude.db"


class Installation:
    """The application as processes: one API, some workers."""

    def __init__(self, folder: Path, *, workers: int = 1, **variables: str) -> None:
        self._processes: list[subprocess.Popen[str]] = []
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("POSTLUDE_")}
        self._environment = inherited | {"POSTLUDE_DATA_DIR": str(folder)} | variables
        migrate = [sys.executable, "-m", "postlude.cli", "migrate"]
        subprocess.run(migrate, cwd=ROOT, env=self._environment, check=True, capture_output=True)
        api = self._start("-c", SERVE)
        for _ in range(workers):
            self._start("-m", "dramatiq", "actors", "--processes", "1", "--threads", "4")
        port = api.stdout.readline().strip()
        self.client = httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S)

    def _start(self, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=self._environment,
            stdout=subprocess.PIPE if "-c" in arguments else subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        self._processes.append(process)
        return process

    def close(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        self.client.close()

    def until(self, look):
        """Look again and again until there is something to see; return that."""
        deadline = time.monotonic() + PATIENCE_S
        while not (found := look()):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        return found

    def outcome(self, response):
        """Wait until the task that was added by a request has ended; return it."""
        assert response.status_code == 202, response.text

        def look():
            task = self.client.get(response.headers["location"]).json()
            return task if task["finished_at"] else None

        return self.until(look)


@pytest.fixture(scope="module")
def install(tmp_path_factory):
    """Start an installation, which ends with the module; call it with what Installation takes."""
    made = []

    def start(**wanted) -> Installation:
        made.append(Installation(tmp_path_factory.mktemp("data"), **wanted))
        return made[-1]

    yield start
    for installation in made:
        installation.close()


class RedisServer:
    """A ``redis-server`` process on a port of its own, which keeps nothing on disk."""

    def __init__(self, folder: Path, *options: str) -> None:
        self._folder = folder
        self._options = options
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.socket = folder / "redis.sock"
        self.url = f"redis://127.0.0.1:{self.port}/0"
        once = Retry(NoBackoff(), 0)
        self.client = redis.Redis(port=self.port, decode_responses=True, retry=once)
        self.start()

    def start(self) -> None:
        """Start it, empty, and return when it answers."""
        command = [shutil.which("redis-server"), "--port", str(self.port), "--save", ""]
        command += [
            "--repl-diskless-sync-delay",
            "0",
        ]  # a test with a replica does not wait for more
        places = ["--bind", "127.0.0.1", "--unixsocket", str(self.socket), "--dir", self._folder]
        with (self._folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, *places, *self._options], stdout=log, stderr=log
            )
        deadline = time.monotonic() + PATIENCE_S
        while not self._answers():
            assert self._process.poll() is None, (self._folder / "redis.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def stop(self) -> None:
        """Stop it; everything in it is gone."""
        self._process.send_signal(signal.SIGCONT)
        self._process.kill()
        self._process.wait()

    def pause(self) -> None:
        """Let it answer nobody, while it takes connections."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        self.client.close()
        self.stop()

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.AuthenticationError:
            return True
        except redis.ConnectionError:
            return False


def new_redis(*options: str) -> RedisServer:
    """Start one, or skip the test where there is no such program."""
    if shutil.which("redis-server") is None:
        hint = "no redis-server; get one with: apt-get install redis-server"
        if os.environ.get("REQUIRE_SERVICES"):
            pytest.fail(hint)
        pytest.skip(hint)
    return RedisServer(Path(mkdtemp(prefix="redis")), *options)


@pytest.fixture(scope="session")
def shared_redis():
    server = new_redis()
    yield server
    server.close()
    shutil.rmtree(server.socket.parent)


@pytest.fixture
def redis_server(shared_redis):
    """An empty Redis that runs; a test may do to it what it likes, but for its configuration."""
    yield shared_redis
    shared_redis.resume()
    if not shared_redis._answers():
        shared_redis.start()
    shared_redis.client.flushall()


@pytest.fixture
def own_redis():
    """Start a Redis with options of the test's own."""
    servers = []

    def start(*options: str) -> RedisServer:
        servers.append(new_redis(*options))
        return servers[-1]

    yield start
    for server in servers:
        server.close()
        shutil.rmtree(server.socket.parent)
