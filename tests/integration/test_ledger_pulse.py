"""The pulse: one poller a process that wakes whoever waits for news from the ledger."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import text

from postlude.ledger import migrate
from postlude.ledger.ledger import Ledger
from postlude.ledger.statement import Statement
from postlude.settings import load
from postlude.worker.pulse import Pulse

PATIENCE_S = 10
TOUCH = Statement(text("UPDATE postlude_meta SET version = version + 0"))


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


def settle(pulse) -> threading.Event:
    """Return a listener that has had its first look and the one that the poller's start gives."""
    first = pulse.listen()
    first.clear()
    assert first.wait(PATIENCE_S)
    first.clear()
    return first


def commit(ledger) -> None:
    ledger.write(lambda tx: tx.run(TOUCH))


def test_a_new_listener_looks_at_once(pulse):
    assert pulse.listen().is_set()


def test_every_listener_is_woken_by_a_commit(pulse, ledger):
    listeners = [settle(pulse), pulse.listen()]
    listeners[1].clear()
    commit(ledger)

    assert all(listener.wait(PATIENCE_S) for listener in listeners)


def test_a_commit_of_another_process_wakes_too(pulse, tmp_path):
    listener = settle(pulse)
    other = Ledger(load(data_dir=tmp_path))
    commit(other)
    other.close()

    assert listener.wait(PATIENCE_S)


def test_nothing_new_wakes_nobody(pulse, ledger):
    listener = settle(pulse)
    with ledger.read() as connection:
        connection.exec_driver_sql("SELECT 1 FROM postlude_meta").all()

    assert not listener.wait(0.1)


def test_whoever_was_forgotten_is_not_woken(pulse, ledger):
    stays, leaves = settle(pulse), pulse.listen()
    leaves.clear()
    pulse.forget(leaves)
    commit(ledger)

    assert stays.wait(PATIENCE_S)
    assert not leaves.is_set()


def test_there_is_one_poller_for_all(pulse):
    for _ in range(5):
        pulse.listen()

    assert [thread.name for thread in threading.enumerate()].count("pulse") == 1


def test_closing_wakes_all_for_a_last_look(pulse):
    listener = settle(pulse)
    pulse.close()

    assert listener.is_set()
    assert "pulse" not in [thread.name for thread in threading.enumerate()]
