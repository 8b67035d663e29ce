"""The benchmark measures: small runs of its parts with real processes, and a whole quick one."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import text

from benchmarks import ledger_rows
from benchmarks.bench import Bench
from benchmarks.goals import GOALS
from benchmarks.plan import QUICK
from benchmarks.scenarios import idle, memory, run, schedules, work
from benchmarks.services import Services
from benchmarks.stage import Stage
from benchmarks.tally import Tally

ROOT = Path(__file__).parents[2]
TINY = dataclasses.replace(
    QUICK,
    rounds=1,
    tasks=200,
    latency_tasks=10,
    idle_s=0.2,
    rows=500,
    schedules=200,
    work_batches=2,
)


@pytest.fixture
def bench(tmp_path):
    """A benchmark without servers, and in an environment without peers."""
    services = Services((), "test")
    services.absent |= dict.fromkeys(("RabbitMQ", "Redis", "PostgreSQL"), "not in this test")
    return Bench(TINY, services, tmp_path / "bench", "test")


def median(bench, key):
    return bench.measurements.by_key[key].median


def test_postlude_is_measured_and_peers_that_are_absent_are_named(bench):
    run.measure(bench)

    assert median(bench, "run.postlude-2x8") > 10
    assert median(bench, "run.postlude-full") > 10
    assert median(bench, "send-8.postlude-2x8") > 10
    assert bench.measurements.missing["run.dramatiq"] == "not in this test"
    assert "run.huey" not in bench.measurements.by_key


def test_the_other_parts_measure_too(bench):
    schedules.measure(bench)
    memory.measure(bench)
    work.measure(bench)

    assert 0 < median(bench, "schedules.last") < 60
    assert 10 < median(bench, "memory.worker") < 500
    assert 1 < median(bench, "work.outcome") < median(bench, "work.total") < 10_000


def test_a_wait_is_measured_from_the_call_to_the_start(bench):
    idle._sent(bench, idle.POSTLUDE_1X8)

    assert 0 < median(bench, "latency.postlude-1x8.p50") < 10_000
    assert 0 <= median(bench, "idle.cpu") <= 100


def test_a_bench_leaves_nothing_behind(bench, tmp_path):
    with bench.stage("anything", 1) as stage:
        stage.make_ledger()

    assert list((tmp_path / "bench").iterdir()) == []


def test_rows_made_by_sql_are_what_the_product_makes_of_them(tmp_path):
    stage = Stage(tmp_path / "stage", "test", 1)
    stage.make_ledger()
    with stage.ledger() as ledger:
        ledger_rows.finished(ledger, "test", 3)
        ledger_rows.scheduled(ledger, "test", 2)
        ledger_rows.queued(ledger, "test", 1)
        with ledger.read() as connection:
            counted = connection.execute(
                text(
                    "SELECT state, count(*), count(finished_at), count(run_at), count(result),"
                    " max(attempts) FROM postlude_tasks GROUP BY state ORDER BY state"
                )
            ).all()
            attempts = connection.execute(text("SELECT count(*) FROM postlude_attempts")).scalar()

    assert [tuple(row) for row in counted] == [
        ("queued", 1, 0, 0, 0, 0),
        ("scheduled", 2, 0, 2, 0, 0),
        ("succeeded", 3, 3, 0, 3, 1),
    ]
    assert attempts == 3


# The load client


class Server:
    """Answers each request after ``delay(number of the request)`` seconds."""

    def __init__(self, delay, answer=b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"):
        self.requests = []
        self._delay, self._answer = delay, answer
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        start = asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._server = asyncio.run_coroutine_threadsafe(start, self._loop).result(10)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/tasks"

    async def _serve(self, reader, writer):
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.requests.append(head.split()[1].decode())
                await asyncio.sleep(self._delay(len(self.requests)))
                half = len(self._answer) // 2
                for part in (self._answer[:half], self._answer[half:]):
                    writer.write(part)
                    await asyncio.sleep(0)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def close(self):
        self._loop.call_soon_threadsafe(self._server.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


@pytest.fixture
def serve():
    servers = []

    def start(delay, **options):
        servers.append(Server(delay, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def load(server, *options, **variables):
    command = [sys.executable, "-m", "benchmarks.load_client", server.url, *map(str, options)]
    return subprocess.run(
        command,
        env={**os.environ, **variables},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_client_keeps_every_connection_busy_with_one_request_at_a_time(serve):
    server = serve(lambda _: 0.05)

    done = load(server, "--connections", 4, "--seconds", 0.6, "--warm-up", 0.2)

    figures = json.loads(done.stdout)
    assert len(set(server.requests)) == len(server.requests) == figures["answers"]
    assert 20 <= figures["rate"] < 90
    assert figures["p50"] >= 50


def test_a_stall_counts_for_every_request_that_was_due_meanwhile(serve):
    began = time.monotonic()
    server = serve(lambda number: 0.5 if number == 20 else 0)

    done = load(server, "--connections", 1, "--rate", 100, "--seconds", 1.5)

    figures = json.loads(done.stdout)
    assert figures["answers"] == pytest.approx(150, abs=3)
    # The stall makes fifty requests late, by 250 ms on average, and not just the one that it hit.
    assert figures["max"] >= 490
    assert figures["p99"] >= 450
    assert time.monotonic() - began < 30


def test_the_client_notes_when_each_answer_came(serve, tmp_path):
    tally = Tally.create(tmp_path / "tally", 5)

    before = time.monotonic()
    load(serve(lambda _: 0), "--count", 5, "--connections", 1, BENCH_TALLY=str(tmp_path / "tally"))

    assert all(before < at < time.monotonic() for at in tally.since)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\n\r\n{}",
    ],
)
def test_an_answer_that_is_no_success_fails_the_measurement(serve, answer):
    done = load(serve(lambda _: 0, answer=answer), "--seconds", 0.2)

    assert done.returncode == 1
    assert "not the answer that was expected" in done.stderr


# The whole


@pytest.mark.skipif(not os.environ.get("LONG"), reason="long: takes minutes; run with LONG=1")
@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_quick_run_judges_what_it_can_and_replaces_no_stored_results():
    kept = [ROOT / "benchmarks/results.json", ROOT / "docs/benchmarks.md"]
    before = [path.read_bytes() for path in kept]
    written = ROOT / "build/benchmarks/results.json"
    written.unlink(missing_ok=True)
    command = ["make", "bench", "QUICK=1", "ARGS="]  # those of `make test` are no parts to measure

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    outcomes = [each["outcome"] for each in json.loads(written.read_text())["goals"]]
    assert len(outcomes) == len(GOALS)
    assert outcomes.count("not judged") < len(GOALS) / 2
    assert (done.returncode == 0) is ("missed" not in outcomes), done.stderr
    assert [path.read_bytes() for path in kept] == before
