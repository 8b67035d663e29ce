"""The pulse: one poller a process that wakes whoever waits for news from the ledger."""

from __future__ import annotations

import threading
import time

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from postlude.ledger import migrate
from postlude.ledger.ledger import Ledger
from postlude.ledger.statement import Statement
from postlude.settings import load
from postlude.worker.file_watch import FileWatch
from postlude.worker.pulse import UNHINTED_S, Pulse

PATIENCE_S = 10
TOUCH = Statement(
    text("""
    INSERT INTO postlude_ticks (schedule, incarnation, scheduled_for, ticked_at, outcome)
    VALUES ('s', 'i', abs(random()), 0, '')""")
)


@pytest.fixture
def ledger(tmp_path):
    settings = load(data_dir=tmp_path)
    migrate.upgrade(settings)
    ledger = Ledger(settings)
    yield ledger
    ledger.close()


@pytest.fixture
def pulse(ledger):
    pulse = Pulse(ledger)
    yield pulse
    pulse.close()


def commit(ledger) -> None:
    ledger.write(lambda tx: tx.run(TOUCH))


def wakes(listener: threading.Event, ledger) -> bool:
    """Say whether each of three commits wakes ``listener``; the poller's first look does so once."""
    for _ in range(3):
        listener.clear()
        commit(ledger)
        if not listener.wait(PATIENCE_S):
            return False
    return True


def test_a_new_listener_looks_at_once(pulse):
    assert pulse.listen().is_set()


def test_every_listener_is_woken_by_a_commit(pulse, ledger):
    first, second = pulse.listen(), pulse.listen()

    assert wakes(first, ledger)
    assert wakes(second, ledger)


def test_a_commit_of_another_process_wakes_too(pulse, tmp_path):
    other = Ledger(load(data_dir=tmp_path))

    assert wakes(pulse.listen(), other)
    other.close()


def test_nothing_new_wakes_nobody(pulse, ledger):
    listener = pulse.listen()
    assert wakes(listener, ledger)
    for _ in range(5):
        listener.clear()
        with ledger.read() as connection:
            connection.exec_driver_sql("SELECT 1 FROM postlude_meta").all()
        woken = listener.wait(0.1)

    assert not woken


def test_whoever_was_forgotten_is_not_woken(pulse, ledger):
    stays, leaves = pulse.listen(), pulse.listen()
    pulse.forget(leaves)
    leaves.clear()

    assert wakes(stays, ledger)
    assert not leaves.is_set()


def test_there_is_one_poller_for_all(pulse):
    for _ in range(5):
        pulse.listen()

    assert [thread.name for thread in threading.enumerate()].count("pulse") == 1


def test_closing_wakes_all_for_a_last_look(pulse, ledger):
    listener = pulse.listen()
    assert wakes(listener, ledger)
    listener.clear()
    pulse.close()

    assert listener.is_set()
    assert "pulse" not in [thread.name for thread in threading.enumerate()]


def test_where_writes_are_not_told_of_it_looks_every_few_milliseconds(tmp_path, ledger):
    """As on a file system of another machine, of which this one does not hear."""

    class Remote(Ledger):
        wal = tmp_path / "never-written"

    Remote.wal.touch()
    remote = Remote(load(data_dir=tmp_path))
    pulse = Pulse(remote)
    listener = pulse.listen()
    with capture_logs() as logs:
        while "pulse.polls" not in [line["event"] for line in logs]:
            assert wakes(listener, ledger)

    began = time.monotonic()
    for _ in range(10):
        assert wakes(listener, ledger)
    assert time.monotonic() - began < 30 * UNHINTED_S
    pulse.close()
    remote.close()


def test_a_write_is_told_of_at_once_and_a_wait_can_be_ended(tmp_path):
    path = tmp_path / "log"
    path.touch()
    watch = FileWatch(path)
    assert watch.wait(0) is False

    with path.open("w") as log:
        log.write("news")
    assert watch.wait(PATIENCE_S) is True
    assert watch.wait(0) is False

    began = time.monotonic()
    ended = threading.Timer(0.05, watch.interrupt)
    ended.start()
    assert watch.wait(PATIENCE_S) is False
    assert time.monotonic() - began < PATIENCE_S
    watch.close()


def test_a_file_that_is_not_there_cannot_be_watched(tmp_path):
    with pytest.raises(OSError, match="cannot be watched: No such file"):
        FileWatch(tmp_path / "missing")
