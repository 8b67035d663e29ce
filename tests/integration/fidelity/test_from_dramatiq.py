"""Where Postlude differs from Dramatiq: each line of the README's table.

What Dramatiq does itself is shown with its own broker for tests, where that one can show it.
``LINES`` says which tests prove which line.
"""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from datetime import timedelta

import dramatiq
import pytest
from dramatiq.brokers.stub import StubBroker
from dramatiq.middleware import GroupCallbacks
from dramatiq.rate_limits.backends import StubBackend
from dramatiq.results import ResultFailure, ResultMissing

from postlude import BackgroundTasks, TaskHandle
from postlude.broker import broker
from postlude.broker.delivery import Delivery, message_of
from postlude.broker.intake import signature
from postlude.errors import BadOptions, LedgerError, UnknownActor, UnknownTask
from postlude.ledger import clock
from postlude.ledger.queries import tasks as queries
from postlude.ledger.transitions.claim import claim
from postlude.ledger.transitions.outcome import finish
from postlude.ledger.transitions.retain import delete_finished
from postlude.settings import load, settings
from postlude.states import Reason, State
from postlude.worker.holdings import Holdings

WAIT_MS = 20_000


def take(ledger, owner="w"):
    """Claim one task as a worker would."""
    (task,) = ledger.write(
        claim,
        queue="fidelity-kept",
        actors=["fidelity-keep"],
        owner=owner,
        token=owner,
        now=clock.now(),
        limit=1,
    )
    return task


@pytest.fixture
def stub():
    """Dramatiq's own broker, with its own middleware."""
    stub = StubBroker()
    yield stub
    stub.close()


@contextmanager
def working(stub):
    stock = dramatiq.Worker(stub, worker_timeout=50, worker_threads=1)
    stock.start()
    try:
        yield
    finally:
        stock.stop()


def test_an_actor_of_another_broker_is_refused(ledger, stub, post):
    foreign = dramatiq.actor(lambda: None, broker=stub, actor_name="fidelity-foreign")

    def ours(tasks: BackgroundTasks):
        with pytest.raises(ValueError, match="fidelity-foreign"):
            tasks.add_task(foreign)

    assert post(ours).status_code == 200
    assert dramatiq.get_broker() is broker()


def test_send_returns_when_the_task_is_stored_or_raises(ledger, keep):
    message = keep.send()
    stored = ledger.view(message.message_id).state
    with ledger.locked(), pytest.raises(LedgerError):
        keep.send()

    assert stored is State.QUEUED


def test_a_retry_is_the_same_task(actors, ledger, worker):
    message = actors.fail_once.send("retry")

    found = ledger.ended(message)

    assert (found.state, found.attempts, found.result) == (State.SUCCEEDED, 2, "done")
    assert ledger.outcomes(message.message_id) == ["retried", "succeeded"]


def test_a_delay_of_any_length_waits_in_the_ledger(ledger, keep):
    message = keep.send_with_options(delay=timedelta(days=400))

    found = ledger.view(message.message_id)

    assert found.state is State.SCHEDULED
    assert found.run_at - found.created_at == timedelta(days=400)


def test_a_broken_before_hook_keeps_the_actor_from_running(folder, actors, ledger, worker, stub):
    ran = []
    stub.add_middleware(actors.BrokenHook())
    dramatiq.actor(ran.append, broker=stub, actor_name="fidelity-hooked").send("stock")
    with working(stub):
        stub.join("default", timeout=WAIT_MS)

    found = ledger.ended(message := actors.hooked.send())

    assert ran == ["stock"]
    assert found.state is State.FAILED
    assert "this hook is broken" in ledger.attempts(message.message_id)[0].error_message
    assert not (folder / "hooked").exists()


def test_what_a_hook_enqueues_is_stored_with_the_outcome(ledger, keep):
    message = keep.send(1)
    task = take(ledger)
    holdings = Holdings(1)
    ((held,), _) = holdings.take([task])
    delivery = Delivery(message_of(task, (), {}), held, holdings)
    assert delivery.begin()

    with delivery.settling():
        follow_up = keep.send(2)
    (planned,) = delivery.follow_ups
    before = ledger.view(planned.id)
    delivery.succeed()
    ledger.write(finish, task=task, outcome=delivery.outcome(), worker="w")

    assert follow_up.actor_name == "fidelity-keep"
    assert before is None
    assert ledger.view(planned.id).state is State.QUEUED
    assert ledger.view(message.message_id).state is State.SUCCEEDED


def test_shutdown_hands_the_task_back_and_costs_no_retry(folder, actors, start, ledger, until):
    worker = start()
    message = actors.notified.send("notified")
    until((folder / "notified-runs").exists)

    worker.terminate()
    assert worker.wait(20) == 0

    found = ledger.view(message.message_id)
    assert (found.state, found.retries) == (State.QUEUED, 0)
    assert ledger.outcomes(message.message_id) == ["interrupted"]
    (folder / "notified").touch()


def test_in_dramatiq_shutdown_costs_a_retry(stub):
    actor = dramatiq.actor(lambda: None, broker=stub, actor_name="fidelity-stock")
    message = actor.message()
    stub.emit_after("process_message", message, exception=dramatiq.middleware.Shutdown())

    assert message.options["retries"] == 1


def test_a_stopping_worker_hands_back_what_still_runs(folder, actors, start, ledger, until):
    assert load().shutdown_timeout == timedelta(seconds=8)
    worker = start(POSTLUDE_SHUTDOWN_TIMEOUT="300ms")
    message = actors.hold.send_with_options(args=("long",))
    until((folder / "long-runs").exists)
    until(lambda: ledger.view(message.message_id).state is State.RUNNING)

    worker.terminate()
    assert worker.wait(20) == 0

    found = ledger.view(message.message_id)
    assert (found.state, found.retries) == (State.QUEUED, 0)
    assert ledger.outcomes(message.message_id) == ["interrupted"]
    (folder / "long").touch()


def test_a_second_sigterm_within_two_seconds_is_the_same_request(
    folder, actors, start, ledger, until
):
    worker = start()
    message = actors.hold.send("twice")
    until((folder / "twice-runs").exists)
    os.killpg(worker.pid, signal.SIGTERM)  # the master gets it, and passes it on to its child
    until(lambda: "Shutting down" in worker.log.read_text())
    (folder / "twice").touch()

    assert worker.wait(20) == 0
    found = ledger.ended(message)
    assert (found.state, found.attempts) == (State.SUCCEEDED, 1)


def test_a_task_that_kills_its_worker_is_quarantined(actors, start, ledger, until):
    worker = start()
    message = actors.kill.send()
    until(lambda: worker.poll() is not None)
    successor = start()
    found = ledger.ended(message)
    successor.terminate()

    assert successor.wait(20) == 0
    assert (found.state, found.reason) == (State.FAILED, Reason.CRASH_LOOP)
    assert ledger.outcomes(message.message_id) == ["worker-died", *["child-died"] * 3]


def test_an_actor_that_cannot_be_interrupted_fails_and_its_worker_is_replaced(
    actors, start, ledger, until
):
    worker = start(POSTLUDE_TIME_LIMIT_GRACE="200ms")
    message = actors.sleep.send()

    found = ledger.ended(message)
    until(lambda: worker.log.read_text().count("worker.ready") == 2)
    worker.terminate()

    assert worker.wait(20) == 0
    assert (found.state, found.reason) == (State.FAILED, Reason.TIME_LIMIT)
    assert ledger.attempts(message.message_id)[0].error_type == "TimeLimitExceeded"


def test_arguments_are_checked_and_arrive_by_name(ledger, keep):
    with pytest.raises(TypeError):
        keep.send("many")
    with pytest.raises(TypeError):
        keep.send(1, 2, 3)

    task = broker().prepare(keep.message("1", 2))

    assert signature(keep).decode(task.arguments) == ((), {"x": 1, "y": 2})


def test_an_unknown_actor_is_refused_when_it_is_sent(stub, keep):
    message = keep.message().copy(actor_name="fidelity-nobody")
    stub.declare_queue(message.queue_name)
    stub.enqueue(message)  # a worker will find out

    with pytest.raises(UnknownActor, match="fidelity-nobody"):
        broker().enqueue(message)


def test_a_message_id_names_one_task(ledger, stub, keep):
    ran = []
    stock = dramatiq.actor(ran.append, broker=stub, actor_name="fidelity-stock")
    stub.enqueue(stock.send(1))
    with working(stub):
        stub.join("default", timeout=WAIT_MS)
    assert ran == [1, 1]
    message = keep.send()

    with pytest.raises(BadOptions, match=message.message_id):
        broker().enqueue(message)


def test_priority_orders_all_that_waits(ledger, keep):
    for number in range(50):
        keep.send_with_options(args=(number,), priority=5)
    urgent = keep.send_with_options(args=(99,), priority=-1)

    assert take(ledger).id == urgent.message_id


def test_an_async_actor_needs_no_more_middleware(actors, ledger, worker, stub):
    async def nothing():
        """Do nothing."""

    stock = dramatiq.actor(nothing, broker=stub, actor_name="fidelity-stock-async")
    with pytest.raises(RuntimeError, match="AsyncIO"):
        stock()

    assert actors.double_async.send(4).get_result(block=True, timeout=WAIT_MS) == 8


def test_results_are_stored_for_every_actor_and_as_long_as_their_tasks(actors, ledger, worker):
    message = actors.double.send(21)

    assert message.get_result(block=True, timeout=WAIT_MS) == 42
    later = clock.now() + timedelta(days=8)
    ledger.write(delete_finished, state=State.SUCCEEDED, before=later, limit=999, now=later)
    assert load().keep_succeeded == timedelta(days=7)
    with ledger.read() as connection:
        assert queries.was_deleted(connection, message.message_id, settings(), later)  # 410
    with pytest.raises(ResultMissing):
        message.get_result()
    with pytest.raises(UnknownTask):
        TaskHandle(message.message_id).state()


def test_in_dramatiq_results_need_middleware(stub):
    with pytest.raises(RuntimeError, match="results backend"):
        stub.get_results_backend()


def test_a_failure_has_a_reason_and_is_kept(actors, ledger, worker):
    failed, overrun = actors.fail.send("sorry"), actors.overrun.send()

    assert (ledger.ended(failed).state, ledger.ended(failed).reason) == (
        State.FAILED,
        Reason.RETRIES_EXHAUSTED,
    )
    assert ledger.ended(overrun).reason is Reason.TIME_LIMIT
    assert "sorry" in ledger.attempts(failed.message_id)[0].traceback
    assert load().keep_failed == "never"
    with pytest.raises(ResultFailure, match="ValueError: sorry"):
        failed.get_result()


def states(ledger, messages):
    return [ledger.view(message.message_id).state for message in messages]


def test_steps_are_tasks_from_the_start_and_each_is_checked(ledger, keep, stub):
    stock = dramatiq.actor(lambda: None, broker=stub, actor_name="fidelity-stock-step")
    # A worker will find out that the second one takes no result.
    dramatiq.pipeline([stock.message(), stock.message()], broker=stub).run()
    assert stub.queues["default"].qsize() == 1

    pipe = (keep.message(1) | keep.message(2)).run()
    refused = keep.message(1) | keep.message(1, 2)
    with pytest.raises(TypeError, match="takes 2 positional arguments but 3 were given"):
        refused.run()

    assert states(ledger, pipe.messages) == [State.QUEUED, State.WAITING]
    ids = [message.message_id for message in (*pipe.messages, *refused.messages)]
    with ledger.read() as connection:
        assert queries.absent(connection, ids) == ids[2:]


def test_steps_after_a_failure_are_cancelled(actors, ledger, worker):
    double = actors.double.message_with_options(args=(1,), pipe_ignore=True)
    pipe = (actors.fail.message("sorry") | double).run()

    found = ledger.ended(pipe.messages[1])

    assert (found.state, found.reason) == (State.CANCELLED, Reason.UPSTREAM_FAILED)


def test_callbacks_of_a_group_run_also_when_a_member_has_failed(actors, ledger, worker, stub):
    told = []
    stub.add_middleware(GroupCallbacks(StubBackend()))
    fail = dramatiq.actor(actors.fail.fn, broker=stub, actor_name="fidelity-fail", max_retries=0)
    tell = dramatiq.actor(told.append, broker=stub, actor_name="fidelity-tell")
    theirs = dramatiq.group([fail.message("sorry")], broker=stub)
    theirs.add_completion_callback(tell.message(1))
    theirs.run()
    with working(stub):
        stub.join("default", timeout=WAIT_MS, fail_fast=False)
    ours = dramatiq.group([actors.fail.message("sorry"), actors.double.message(4)])
    callback = actors.double.message(21)
    ours.add_completion_callback(callback)
    ours.run()

    assert callback.get_result(block=True, timeout=WAIT_MS) == 42
    assert ledger.view(ours.children[0].message_id).state is State.FAILED
    assert told == []


def test_a_group_with_callbacks_is_stored_as_a_whole_or_not_at_all(ledger, keep, stub):
    stub.add_middleware(GroupCallbacks(StubBackend()))
    stock = dramatiq.actor(lambda: None, broker=stub, actor_name="fidelity-stock-member")
    theirs = dramatiq.group([stock.message(), stock.message().copy(queue_name="no")], broker=stub)
    theirs.add_completion_callback(stock.message())
    with pytest.raises(dramatiq.QueueNotFound):
        theirs.run()
    ours = dramatiq.group([keep.message(1), keep.message("x")])
    ours.add_completion_callback(keep.message())
    with pytest.raises(TypeError):
        ours.run()

    assert stub.queues["default"].qsize() == 1
    assert ledger.view(ours.children[0].message_id) is None


def test_on_failure_is_told_of_a_task_that_is_too_old(actors, ledger, worker, until):
    options = {"max_age": 0.001, "on_failure": actors.told.actor_name}
    message = actors.double.send_with_options(args=(1,), **options)

    found = ledger.ended(message)

    assert found.reason is Reason.EXPIRED
    until((actors.FOLDER / f"told-{message.message_id}").exists)


LINES = {
    "`import postlude` sets the broker": (test_an_actor_of_another_broker_is_refused,),
    "`.send()` returns": (test_send_returns_when_the_task_is_stored_or_raises,),
    "A retry is the same row": (test_a_retry_is_the_same_task,),
    "A delay may be of any length": (test_a_delay_of_any_length_waits_in_the_ledger,),
    "A `before_process_message` hook": (test_a_broken_before_hook_keeps_the_actor_from_running,),
    "What a hook enqueues": (test_what_a_hook_enqueues_is_stored_with_the_outcome,),
    "`Shutdown` hands": (
        test_shutdown_hands_the_task_back_and_costs_no_retry,
        test_in_dramatiq_shutdown_costs_a_retry,
    ),
    "A stopping worker": (test_a_stopping_worker_hands_back_what_still_runs,),
    "A second SIGTERM": (test_a_second_sigterm_within_two_seconds_is_the_same_request,),
    "A task whose worker dies": (test_a_task_that_kills_its_worker_is_quarantined,),
    "An actor that cannot be": (
        test_an_actor_that_cannot_be_interrupted_fails_and_its_worker_is_replaced,
    ),
    "Arguments must be JSON": (test_arguments_are_checked_and_arrive_by_name,),
    "An unknown actor": (test_an_unknown_actor_is_refused_when_it_is_sent,),
    "A message id": (test_a_message_id_names_one_task,),
    "`priority` orders": (test_priority_orders_all_that_waits,),
    "An `async` actor": (test_an_async_actor_needs_no_more_middleware,),
    "Results are stored": (
        test_results_are_stored_for_every_actor_and_as_long_as_their_tasks,
        test_in_dramatiq_results_need_middleware,
    ),
    "A task that fails": (test_a_failure_has_a_reason_and_is_kept,),
    "The steps of a pipeline": (test_steps_are_tasks_from_the_start_and_each_is_checked,),
    "When a step fails": (test_steps_after_a_failure_are_cancelled,),
    "A group's callbacks": (test_callbacks_of_a_group_run_also_when_a_member_has_failed,),
    "`group.run()` stores": (test_a_group_with_callbacks_is_stored_as_a_whole_or_not_at_all,),
    "`on_failure` is also": (test_on_failure_is_told_of_a_task_that_is_too_old,),
}


def test_each_line_of_the_readmes_table_has_its_test(lines):
    found = lines("from Dramatiq")

    assert found
    assert [[key for key in LINES if line.startswith(key)] for line in found] == [
        [key] for key in LINES
    ]
