"""A pytest plugin for Dramatiq's own tests: their fixtures, with our broker inside.

Loaded by name into a pytest of its own, in place of their ``conftest``. Each test gets a ledger of its
own; its worker is Dramatiq's own, in the process of the test, as in their suite. What is run are the
tests that ask for a broker; the others prove Dramatiq alone.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import tomllib
from contextlib import contextmanager
from pathlib import Path

import dramatiq
import pytest
from dramatiq.rate_limits.backends import StubBackend as StubLimits
from dramatiq.results.backends import StubBackend
from sqlalchemy import text

from postlude import process
from postlude.broker import PostludeBroker
from postlude.ledger import migrate
from postlude.middleware import default_middleware
from postlude.middleware.interrupts import Interrupts
from postlude.middleware.results import LedgerResults
from postlude.settings import load, settings

LISTED = tomllib.loads(Path(__file__).with_name("cannot_apply.toml").read_text())
FAILING = set(LISTED["fails"])
PATIENCE_MS, SHORT_MS = 20_000, 2_000
"""How long a join waits, in theirs for ever: briefly in a test of which we know that it fails."""


class HostBroker(PostludeBroker):
    """Our broker, and what their tests ask of StubBroker and RabbitmqBroker beside Dramatiq's interface."""

    def __init__(self, patience_ms, *, fail_fast):
        interrupts = Interrupts()
        super().__init__(default_middleware(interrupts), interrupts)
        self._patience_ms = patience_ms
        self._fail_fast = fail_fast
        self._failures = {}

    def emit_after(self, signal, *args, **kwargs):
        super().emit_after(signal, *args, **kwargs)
        if signal == "nack" and (error := args[0]._exception):
            # What to raise, not what was raised: one of their tests asks whether somebody keeps that.
            self._failures.setdefault(args[0].queue_name, (type(error), error.args))

    def join(self, queue_name, *, timeout=None, fail_fast=None, min_successes=0):
        """Join as ever; then raise the first failure, if asked to."""
        super().join(queue_name, timeout=timeout or self._patience_ms)
        if queue_name in self._failures and (self._fail_fast if fail_fast is None else fail_fast):
            error, args = self._failures[queue_name]
            raise error(*args)

    def flush_all(self):
        super().flush_all()
        self._failures.clear()

    def get_queue_message_counts(self, queue_name):
        """Count what waits, what is delayed and the dead letters."""
        query = text("SELECT state, count(*) FROM postlude_tasks WHERE queue = :queue GROUP BY 1")
        with process.current().ledger.read() as connection:
            counts = dict(connection.execute(query, {"queue": queue_name}).all())
        return tuple(counts.get(state, 0) for state in ("queued", "scheduled", "failed"))


def begin_anew():
    process.close()
    settings.cache_clear()


@pytest.fixture(scope="session")
def empty(tmp_path_factory):
    """A migrated ledger, of which each test has a copy."""
    folder = tmp_path_factory.mktemp("ledger")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POSTLUDE_DATA_DIR", str(folder))
        begin_anew()
        migrate.upgrade(load())
        begin_anew()
    return folder


@pytest.fixture
def host(empty, tmp_path, monkeypatch, request):
    """Makes the broker of a test, Dramatiq's default as long as that test runs."""
    shutil.copytree(empty, tmp_path / "ledger")
    monkeypatch.setenv("POSTLUDE_DATA_DIR", str(tmp_path / "ledger"))
    # A worker that stops ends its process when its time is up, which here would be that of the tests.
    monkeypatch.setenv("POSTLUDE_SHUTDOWN_TIMEOUT", "1h")
    begin_anew()
    patience_ms = SHORT_MS if listed_as(request.node.nodeid) in FAILING else PATIENCE_MS

    def host(*, fail_fast):
        broker = HostBroker(patience_ms, fail_fast=fail_fast)
        broker.emit_after("process_boot")
        dramatiq.set_broker(broker)
        return broker

    yield host
    begin_anew()
    for name in logging.root.manager.loggerDict:  # our worker has set them as a process of its own
        logging.getLogger(name).setLevel(logging.NOTSET)


@contextmanager
def working(broker):
    worker = dramatiq.Worker(broker, worker_timeout=100, worker_threads=8)
    worker.start()
    yield worker
    worker.stop()


@pytest.fixture
def stub_broker(host):
    return host(fail_fast=True)


@pytest.fixture
def stub_worker(stub_broker):
    with working(stub_broker) as worker:
        yield worker


@pytest.fixture
def rabbitmq_broker(host):
    return host(fail_fast=False)


@pytest.fixture
def rabbitmq_worker(rabbitmq_broker):
    with working(rabbitmq_broker) as worker:
        yield worker


@pytest.fixture
def info_logging():
    """Nothing to do: whoever asks for it asks for no broker."""


@pytest.fixture(params=["ledger", "brought along"])
def result_backend(request):
    return LedgerResults() if request.param == "ledger" else StubBackend()


@pytest.fixture
def redis_result_backend():
    return StubBackend()


@pytest.fixture
def rate_limiter_backend():
    return StubLimits()


def listed_as(node_id):
    """Return the name under which ``cannot_apply.toml`` lists a test."""
    return node_id.removeprefix("tests/")


def pytest_collection_modifyitems(items):
    """Keep the tests that ask for a broker, and of them those that are this process's share."""
    share, of = map(int, os.environ.get("GUESTS_SHARE", "0/1").split("/"))
    asking = [
        item
        for item in items
        if {"stub_broker", "rabbitmq_broker"} & set(item.fixturenames)
        and listed_as(item.nodeid) not in LISTED["not_run"]
    ]
    items[:] = asking[share::of]


verdicts = {}


def pytest_runtest_logreport(report):
    if report.when == "call" or not report.passed:
        why = str(report.longrepr) if report.failed else ""
        verdicts[listed_as(report.nodeid)] = (report.outcome, why)


def pytest_sessionfinish():
    Path(os.environ["GUESTS_REPORT"]).write_text(json.dumps(verdicts))
