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
