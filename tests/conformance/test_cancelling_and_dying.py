"""Cancelling and trying again when workers start, stop and die meanwhile.

Apart from test_cancelling: over RabbitMQ two ledgers must not share their queues at one time.
"""

from __future__ import annotations

import time

from postlude import interventions, process
from postlude.states import Reason, State


def cancel(message) -> State:
    return interventions.cancel(process.current().ledger, message.message_id)


def retry(message) -> State:
    return interventions.retry(process.current().ledger, message.message_id)


def cancelled(crew, message):
    view = crew.ended(message)
    assert (view.state, view.reason, view.cancel_requested) == (
        State.CANCELLED,
        Reason.BY_REQUEST,
        False,
    )
    return view


def test_a_waiting_task_is_cancelled_at_once_and_never_runs(fleet, actors):
    message, other = actors.jot.send("no"), actors.jot.send("yes")

    assert cancel(message) is State.CANCELLED
    fleet.start()
    fleet.ended(other)

    cancelled(fleet, message)
    assert fleet.journal() == ["yes"]
    assert cancel(message) is State.CANCELLED


def test_a_task_is_cancelled_whose_worker_dies_before_it_gets_to_it(fleet, actors):
    worker = fleet.start()
    message = actors.hold_in_c.send("c", 3600)
    fleet.noted("c")
    fleet.kill(worker, 19)

    assert cancel(message) is State.RUNNING
    fleet.kill(worker)
    fleet.start()

    cancelled(fleet, message)


def test_a_stopping_worker_cancels_what_it_would_hand_back(fleet, actors):
    worker = fleet.start(POSTLUDE_SHUTDOWN_TIMEOUT="500ms")
    message = actors.hold_in_c.send("c", 3600)
    fleet.noted("c")

    worker.terminate()
    cancel(message)

    cancelled(fleet, message)
    worker.wait(30)
    assert fleet.count("state = 'queued'") == 0


def test_a_cancel_that_comes_while_a_failure_is_logged_costs_no_thread(fleet, actors):
    fleet.start(threads=1)
    message = actors.fail_slowly.send()
    fleet.noted("logging")

    cancel(message)
    cancelled(fleet, message)
    fleet.let_go("logged")

    assert actors.add.send(1).get_result(block=True, timeout=10_000) == 3


def test_a_thread_that_a_cancelled_task_still_has_is_given_no_other(fleet, actors):
    fleet.start(threads=1)
    message = actors.hold_in_c.send("c", 4)
    fleet.noted("c")
    cancel(message)
    cancelled(fleet, message)

    other = actors.add.send(1)
    fleet.noted("c left")

    assert other.get_result(block=True, timeout=10_000) == 3
    assert fleet.count(f"id = '{other.message_id}' AND generation = 1"), "claimed and handed back"


def test_an_expired_task_is_young_again(fleet, actors):
    message = actors.add.send_with_options(args=(1,), max_age=1500)
    fleet.until(lambda: time.time() * 1000 > message.message_timestamp + 1600)
    fleet.start()
    assert fleet.ended(message).reason is Reason.EXPIRED

    retry(message)

    assert fleet.ended(message).state is State.SUCCEEDED
