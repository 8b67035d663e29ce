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
from dramatiq.results import ResultFailure, ResultMissing

from postlude import BackgroundTasks, TaskHandle
from postlude.broker import broker
from postlude.broker.delivery import Delivery, message_of
from postlude.broker.intake import signature
from postlude.errors import BadOptions, LedgerError, UnknownActor, UnknownTask
from postlude.ledger import clock
from postlude.ledger.queries import tasks as queries
from postlude.ledger.transitions import bury, incarnation
from postlude.ledger.transitions.claim import claim
from postlude.ledger.transitions.outcome import finish
from postlude.ledger.transitions.retain import delete_finished
from postlude.settings import load, settings
from postlude.states import Reason, State
from postlude.worker.holdings import Holdings

WAIT_MS = 20_000


def take(ledger, owner="w", *, suspects=False):
    """Claim one task as a worker would."""
    (task,) = ledger.write(
        claim,
        queue="fidelity-kept",
        actors=["fidelity-keep"],
        owner=owner,
        token=owner,
        now=clock.now(),
        limit=1,
        suspects=suspects,
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


def test_a_task_whose_workers_die_is_quarantined(ledger, keep):
    message = keep.send()
    for number in range(4):
        name = f"doomed{number}"
        born = {"kind": "worker", "host": "h", "pid": 1, "version": "1", "queues": []}
        ledger.write(incarnation.appear, incarnation=name, now=clock.now(), **born)
        take(ledger, name, suspects=number > 0)
        ledger.write(bury.bury, incarnation=name, now=clock.now(), proven=True)

    found = ledger.view(message.message_id)
    assert (found.state, found.reason) == (State.FAILED, Reason.CRASH_LOOP)


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


def test_pipelines_and_completion_callbacks_are_refused(ledger, keep):
    with pytest.raises(BadOptions, match="not supported yet"):
        (keep.message() | keep.message()).run()
    group = dramatiq.group([keep.message()])
    group.add_completion_callback(keep.message())
    with pytest.raises(RuntimeError, match="GroupCallbacks"):
        group.run()


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
    "A task whose worker dies": (test_a_task_whose_workers_die_is_quarantined,),
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
    "Pipelines": (test_pipelines_and_completion_callbacks_are_refused,),
}


def test_each_line_of_the_readmes_table_has_its_test(lines):
    found = lines("from Dramatiq")

    assert found
    assert [[key for key in LINES if line.startswith(key)] for line in found] == [
        [key] for key in LINES
    ]
