"""One installation of the application as real processes, for tests to feed, starve and shoot."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx2

ROOT = Path(__file__).parents[2]
PATIENCE_S = 30


class Site:
    """One installation of the application: a data folder, a port, and the processes that run.

    ``before`` stands in front of every command; ``headers`` are sent with every request.
    """

    def __init__(self, folder, *, before=(), headers=None, **variables):
        self.folder = folder
        self.data = folder / "var"
        self.log = folder / "log"
        self.port = free_port()
        self.before = before
        clean = {k: v for k, v in os.environ.items() if not k.startswith("POSTLUDE_")}
        self.environment = clean | {
            "POSTLUDE_DATA_DIR": str(self.data),
            "POSTLUDE_PORT": str(self.port),
            **variables,
        }
        self.web = httpx2.Client(
            base_url=f"http://127.0.0.1:{self.port}", headers=headers, timeout=PATIENCE_S
        )
        self._running = []

    def run(self, *arguments):
        """Run ``python -m …`` to its end."""
        return subprocess.run(
            [*self.before, sys.executable, "-m", *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    def migrate(self):
        done = self.run("postlude.cli", "migrate")
        assert done.returncode == 0, done.stderr

    def start(self, *arguments):
        """Start ``python -m …``; it ends with the test at the latest."""
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [*self.before, sys.executable, "-m", *arguments],
                cwd=ROOT,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._running.append(process)
        return process

    def start_api(self):
        api = self.start("uvicorn", "api:app", "--port", str(self.port))
        self.until(self.is_ready)
        return api

    def start_worker(self):
        before = self.told("worker.ready")
        worker = self.start("dramatiq", "actors", "--processes", "1", "--threads", "2")
        self.until(lambda: self.told("worker.ready") > before)
        return worker

    def is_ready(self):
        assert all(p.poll() is None for p in self._running), self.log.read_text()[-6000:]
        try:
            return self.web.get("/readyz").status_code == 200
        except httpx2.TransportError:
            return False

    def told(self, event):
        """Return how often the log has ``event``."""
        return self.log.read_text(errors="replace").count(event) if self.log.exists() else 0

    def until(self, ask, patience_s=PATIENCE_S):
        deadline = time.monotonic() + patience_s
        while not (answer := ask()):
            assert time.monotonic() < deadline, self.log.read_text(errors="replace")[-6000:]
            time.sleep(0.02)
        return answer

    def task(self, url):
        return self.web.get(url).json()

    def ended(self, url):
        """Wait until the task at ``url`` is final, and return it."""
        final = {"succeeded", "failed", "cancelled"}
        return self.until(lambda: (task := self.task(url)).get("state") in final and task)

    def stop(self, process):
        process.send_signal(signal.SIGTERM)
        return process.wait(PATIENCE_S)

    def kill(self, process):
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(PATIENCE_S)

    def close(self):
        self.web.close()
        for process in self._running:
            self.kill(process)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
