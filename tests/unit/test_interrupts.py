"""A visit to an actor ends once: by the thread that makes it, or by whoever gives it up."""

from __future__ import annotations

import threading

import pytest
from dramatiq.threading import Interrupt

from postlude.middleware.interrupts import Interrupts

ROUNDS = 200


@pytest.fixture
def interrupts():
    return Interrupts()


def test_an_abandoned_visit_is_not_left_as_if_nothing_had_happened(interrupts):
    me = threading.get_ident()
    visit = interrupts.enter()

    assert interrupts.abandon(me, visit)
    assert not interrupts.abandon(me, visit)
    assert not interrupts.leave()


def test_the_next_visit_is_another_one(interrupts):
    me = threading.get_ident()
    visit = interrupts.enter()
    interrupts.abandon(me, visit)
    interrupts.leave()
    interrupts.enter()

    assert not interrupts.abandon(me, visit)
    assert interrupts.leave()


def test_whoever_has_left_cannot_be_given_up(interrupts):
    me = threading.get_ident()
    visit = interrupts.enter()

    assert interrupts.leave()
    assert not interrupts.abandon(me, visit)


def test_a_thread_that_never_entered_leaves_like_any_other(interrupts):
    assert interrupts.leave()


def test_of_a_thread_that_leaves_and_one_that_gives_it_up_one_wins(interrupts):
    visits: list[tuple[int, int]] = []
    entered, done = threading.Barrier(2), threading.Barrier(2)
    own, others = [], []

    def visit() -> None:
        for _ in range(ROUNDS):
            visits.append((threading.get_ident(), interrupts.enter()))
            entered.wait()
            own.append(interrupts.leave())
            done.wait()

    thread = threading.Thread(target=visit)
    thread.start()
    for number in range(ROUNDS):
        entered.wait()
        others.append(interrupts.abandon(*visits[number]))
        done.wait()
    thread.join()

    assert [a != b for a, b in zip(own, others, strict=True)] == [True] * ROUNDS


def test_a_thread_that_has_gone_on_to_the_next_task_is_not_struck_for_the_last_one(interrupts):
    class Strange(Interrupt):
        """Must not be raised here."""

    me, first, second = threading.get_ident(), object(), object()
    interrupts.enter(first)
    interrupts.leave()
    interrupts.enter(second)

    assert not interrupts.strike(me, Strange, task=first)
    assert not interrupts.strike_task(first, Strange)
    assert interrupts.leave()
