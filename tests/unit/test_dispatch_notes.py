"""Tasks that a session is to carry: none is lost between two threads."""

from __future__ import annotations

import sys
import threading

import pytest

from postlude.dispatch.notes import Notes

TASKS = 20_000


class Outermost:
    """A transaction, as far as notes look at it."""

    parent = None


@pytest.fixture
def restless():
    """Let threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_what_one_thread_adds_while_another_commits_is_committed_or_waits_for_the_next(restless):
    notes, kept = Notes(), []
    added = threading.Event()

    def add():
        for number in range(TASKS):
            notes.add(number, None)
        added.set()

    def commit():
        transaction = Outermost()
        notes.begun(transaction)
        notes.written(notes.unwritten, transaction)
        kept.extend(notes.committed())
        notes.ended(transaction)

    adding = threading.Thread(target=add)
    adding.start()
    while not added.is_set():
        commit()
    adding.join()
    commit()

    assert kept == list(range(TASKS))
    assert not notes.pending
