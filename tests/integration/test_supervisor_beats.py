"""The supervisor reads heartbeats from the real ledger."""

from __future__ import annotations

import os
import socket
from datetime import timedelta

import pytest
from sqlalchemy import text

from postlude.ledger.clock import now
from postlude.ledger.engine import BareConnection, build_engine
from postlude.ledger.migrate import upgrade
from postlude.ledger.statement import Statement
from postlude.ledger.transitions import bury, incarnation
from postlude.policy.crash import Death
from postlude.settings import load
from postlude.supervisor.hanging import Beat, LedgerBeats


@pytest.fixture
def settings(tmp_path):
    settings = load(data_dir=tmp_path)
    upgrade(settings)
    return settings


@pytest.fixture
def connection(settings):
    engine = build_engine(settings)
    connection = BareConnection(engine)
    yield connection
    connection.close()
    engine.dispose()


@pytest.fixture
def beats(settings):
    beats = LedgerBeats(settings)
    yield beats
    beats.close()


def appear(connection, name, *, host=None, ago=timedelta()):
    with connection.transaction() as tx:
        incarnation.appear(
            tx,
            name,
            kind="worker",
            host=host or socket.gethostname(),
            pid=os.getpid(),
            version="1",
            queues=["default"],
            now=now() - ago,
        )


def test_each_beat_raises_the_counter(beats, connection):
    appear(connection, "a")
    first = beats()

    with connection.transaction() as tx:
        incarnation.beat(tx, "a", now=now())

    assert first == [Beat("a", os.getpid(), 0)]
    assert beats() == [Beat("a", os.getpid(), 1)]


def test_one_that_left_in_order_is_told_once_and_one_that_was_buried_never(beats, connection):
    appear(connection, "left")
    appear(connection, "buried")
    beats()

    with connection.transaction() as tx:
        bury.leave(tx, "left", now=now())
        bury.bury(tx, "buried", now=now(), death=Death.STOPPED)

    assert beats() == [Beat("left", os.getpid(), 0, left=True)]
    assert beats() == []


def test_other_machines_are_not_ours_to_judge(beats, connection):
    appear(connection, "elsewhere", host="another-machine")

    assert beats() == []


def test_incarnations_from_before_our_start_are_not_our_children(settings, connection):
    appear(connection, "old")
    beats = LedgerBeats(settings)
    appear(connection, "new")

    assert [beat.incarnation for beat in beats()] == ["new"]
    beats.close()


def test_a_clock_that_was_set_back_hides_no_child(beats, connection):
    appear(connection, "child", ago=timedelta(hours=1))

    assert [beat.incarnation for beat in beats()] == ["child"]


def test_a_ledger_that_does_not_answer_blames_nobody(settings, beats, connection):
    with connection.transaction() as tx:
        tx.run(Statement(text("ALTER TABLE postlude_incarnations RENAME TO away")))

    assert beats() == []
