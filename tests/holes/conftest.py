"""Playing scenarios, each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pika
import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
AMQP_URL = os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2F")
PATIENCE_S = 60


@pytest.fixture(scope="session")
def rabbit():
    """A RabbitMQ that answers."""
    try:
        pika.BlockingConnection(pika.URLParameters(AMQP_URL)).close()
    except (pika.exceptions.AMQPError, OSError) as error:
        hint = "no RabbitMQ at AMQP_URL; get one with: apt-get install rabbitmq-server"
        if os.environ.get("REQUIRE_SERVICES"):
            pytest.fail(f"{hint} ({error!r})")
        pytest.skip(hint)


class Theatre:
    """Starts scripts and reads what they have observed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._started: list[subprocess.Popen[str]] = []

    def play(self, script: str, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        """Start a script of this folder; ours are within its reach if the stage is ours."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("POSTLUDE_")}
        environment |= {"AMQP_URL": AMQP_URL, "HOLE_QUEUE": f"hole{uuid4()}"}
        if "ours" in arguments:
            environment |= {
                "PYTHONPATH": str(ROOT),
                "POSTLUDE_DATA_DIR": str(self.folder / "data"),
                "POSTLUDE_SHUTDOWN_TIMEOUT": "1h",  # after which a worker would end the play
            }
        process = subprocess.Popen(
            [sys.executable, str(HERE / script), *arguments],
            cwd=self.folder,
            env=environment | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._started.append(process)
        return process

    def observed(self, process: subprocess.Popen[str]):
        """Return what a scenario has observed."""
        output, complaints = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, complaints
        return json.loads(output.splitlines()[-1])

    def one(self, script: str, *arguments: str, **variables: str):
        """Play a scenario and return what it has observed."""
        return self.observed(self.play(script, *arguments, **variables))

    def both(self, script: str, stage: str, scenario: str, **variables: str):
        """Play a scenario on Dramatiq's ``stage`` and on ours, at once; returns both observations."""
        plays = [self.play(script, name, scenario, **variables) for name in (stage, "ours")]
        return [self.observed(process) for process in plays]

    def close(self) -> None:
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.communicate()


@pytest.fixture
def theatre(tmp_path):
    theatre = Theatre(tmp_path)
    yield theatre
    theatre.close()
