"""What a worker's consumer claims for its threads: not beside suspects, and never behind strangers."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from functools import partial
from types import SimpleNamespace

import dramatiq
import pika
import pytest
import structlog
from dramatiq.errors import ConnectionClosed
from sqlalchemy import text

from postlude import process
from postlude.broker.desk import open_desk
from postlude.broker.ledger import LedgerConsumer
from postlude.broker.rabbitmq.consumer import RabbitConsumer
from postlude.ledger import migrate
from postlude.ledger.queries import tasks as queries
from postlude.ledger.statement import Statement
from postlude.ledger.task import NewTask
from postlude.ledger.transitions import accept, bury
from postlude.policy.crash import Death, Suspicion
from postlude.settings import load, settings
from postlude.states import Reason, State

NOW = datetime(2026, 11, 24, tzinfo=UTC)
QUEUE, OTHER = "test-claims", "test-claims-other"
PATIENCE_MS, SHORT_MS = 10_000, 20
SUSPECT = Statement(text("UPDATE postlude_tasks SET suspect = :suspect WHERE id = :id"))
THREADS = 2


@dramatiq.actor(actor_name="test-claims-known", queue_name=QUEUE)
def known(x: int = 0) -> None:
    """Never runs here: the test is the worker."""


@dramatiq.actor(actor_name="test-claims-elsewhere", queue_name=OTHER)
def elsewhere() -> None:
    """Never runs here either."""


@pytest.fixture
def owner(monkeypatch, tmp_path):
    """This process as a worker with two threads, and a ledger of its own."""
    monkeypatch.setenv("POSTLUDE_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("POSTLUDE_BROKER_URL", "")
    process.close()
    settings.cache_clear()
    migrate.upgrade(load())
    kind, queues = process._kind, process._queues
    yield process.open_as("worker", [QUEUE])
    process.close()
    monkeypatch.setattr(process, "_kind", kind)
    monkeypatch.setattr(process, "_queues", queues)
    settings.cache_clear()


@pytest.fixture
def desk(owner):
    return open_desk(THREADS)


@pytest.fixture
def rabbit(owner, monkeypatch):
    """Lets this process be a worker of RabbitMQ's, whose queue is deleted afterwards."""
    url = os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2F")
    try:
        connection = pika.BlockingConnection(pika.URLParameters(url))
    except (pika.exceptions.AMQPError, OSError) as error:
        hint = f"no RabbitMQ at AMQP_URL ({error!r})"
        pytest.fail(hint) if os.environ.get("REQUIRE_SERVICES") else pytest.skip(hint)
    owner.close()
    monkeypatch.setenv("POSTLUDE_BROKER_URL", url)
    settings.cache_clear()
    yield process.open_as("worker", [QUEUE])
    connection.channel().queue_delete(f"postlude.{QUEUE}")
    connection.close()


def consume(queue: str = QUEUE, timeout: int = PATIENCE_MS):
    return known.broker.consume(queue, timeout=timeout)


def put(
    owner, id_: str, *, actor: str = "test-claims-known", queue: str = QUEUE, suspect: int = 0
) -> None:
    task = NewTask(id_, actor, queue, "{}", "{}", 0, None, NOW)
    owner.ledger.write(partial(accept.enqueue, task=task, now=NOW))
    if suspect:
        owner.ledger.write(lambda tx: tx.run(SUSPECT, id=id_, suspect=suspect))


def view(owner, id_: str):
    with owner.ledger.read() as connection:
        return queries.get(connection, id_)


def settle(owner, consumer, delivery) -> None:
    """End a task well, and return when the worker has forgotten it."""
    delivery.succeed()
    consumer.ack(delivery)
    owner.ledger.submit(lambda _tx: None, patient=True).result(10)


def test_what_is_handed_out_is_held_in_the_ledger(owner, desk):
    message = known.send(7)

    delivery = next(consume())

    assert (delivery.message_id, delivery.kwargs or delivery.args) == (message.message_id, {"x": 7})
    assert view(owner, message.message_id).holder == owner.incarnation.id
    assert desk.holdings.ids() == {message.message_id}


def test_an_empty_queue_is_waited_for_and_then_none(desk):
    assert next(consume(timeout=SHORT_MS)) is None


def test_no_more_is_claimed_than_a_fresh_worker_can_run(owner, desk):
    for n in range(5):
        put(owner, f"{n}")

    assert next(consume()).message_id == "0"
    assert desk.holdings.ids() == {"0", "1"}


def test_a_suspect_of_an_actor_that_this_worker_does_not_have_is_not_in_the_way(owner, desk):
    put(owner, "stranger", actor="gone", suspect=Suspicion.ALONE)
    put(owner, "mine")
    put(owner, "there", actor="test-claims-elsewhere", queue=OTHER)
    consumer = consume()

    assert next(consumer).message_id == "mine"
    assert next(consume(OTHER)).message_id == "there"
    assert view(owner, "stranger").state is State.QUEUED


def test_what_runs_alone_is_claimed_alone_and_before_the_others(owner, desk):
    put(owner, "innocent")
    put(owner, "suspect", suspect=Suspicion.ALONE)
    consumer, beside = consume(timeout=SHORT_MS), consume(OTHER, timeout=SHORT_MS)
    put(owner, "there", actor="test-claims-elsewhere", queue=OTHER)

    suspect = next(consumer)
    alone = (next(consumer), next(beside))
    settle(owner, consumer, suspect)

    assert (suspect.message_id, alone) == ("suspect", (None, None))
    assert next(consumer).message_id == "innocent"
    assert next(beside).message_id == "there"


def test_what_runs_alone_waits_until_the_worker_is_empty_and_nothing_new_gets_before_it(
    owner, desk
):
    put(owner, "running")
    consumer, beside = consume(timeout=SHORT_MS), consume(OTHER, timeout=SHORT_MS)
    running = next(consumer)
    put(owner, "suspect", suspect=Suspicion.ALONE)
    put(owner, "there", actor="test-claims-elsewhere", queue=OTHER)
    waiting = (next(consumer), next(beside))
    settle(owner, consumer, running)

    assert waiting == (None, None)
    assert next(consumer).message_id == "suspect"


def test_waiting_for_the_worker_to_be_empty_takes_no_time_of_its_own(rabbit):
    """A loop would starve what it waits for, and its connection's heartbeat."""
    open_desk(THREADS)
    put(rabbit, "running")
    running = next(LedgerConsumer(known.broker, QUEUE, SHORT_MS))  # as if a ticket had come for it
    put(rabbit, "suspect", suspect=Suspicion.ALONE)
    consumer = RabbitConsumer(known.broker, QUEUE, 400)
    began, began_cpu = time.monotonic(), time.thread_time()
    waited = next(consumer)
    took, took_cpu = time.monotonic() - began, time.thread_time() - began_cpu
    settle(rabbit, consumer, running)

    assert (waited, took > 0.3, took_cpu < took / 4) == (None, True, True)
    assert next(consumer).message_id == "suspect"
    consumer.close()


@pytest.mark.parametrize(("took_s", "others_s"), [(2, 2), (600, 3)])
def test_the_others_have_as_long_as_what_ran_alone_but_no_longer_than_three_seconds(
    owner, desk, monkeypatch, took_s, others_s
):
    clock = SimpleNamespace(now=1000.0, monotonic=lambda: clock.now)
    monkeypatch.setattr("postlude.broker.ledger.time", clock)
    # By the real clock the worker would find out how fast it is, and claim many at once.
    monkeypatch.setattr(desk.holdings, "_monotonic", clock.monotonic)
    put(owner, "suspect 1", suspect=Suspicion.ALONE)
    put(owner, "suspect 2", suspect=Suspicion.ALONE)
    for n in range(8):
        put(owner, f"innocent {n}")
    consumer = consume()
    seen = []
    for passes_s in (took_s, 0.3 * others_s, 0.3 * others_s, 0.3 * others_s, 0.3 * others_s, 0):
        seen.append(next(consumer))
        clock.now += passes_s
        settle(owner, consumer, seen[-1])

    kinds = [delivery.message_id.split()[0] for delivery in seen]
    assert kinds == ["suspect", *["innocent"] * 4, "suspect"]


def test_suspects_of_the_first_degree_are_claimed_beside_others_and_run_apart(owner, desk):
    put(owner, "running")
    consumer = consume()
    running = next(consumer)
    put(owner, "suspect", suspect=Suspicion.APART)
    suspect = next(consumer)

    assert (running.message_id, suspect.message_id) == ("running", "suspect")
    assert (running.apart, suspect.apart.actor) == (None, known)


def test_suspects_and_the_others_take_turns(owner, desk):
    for n in range(4):
        put(owner, f"suspect {n}", suspect=Suspicion.APART)
        put(owner, f"innocent {n}")
    consumer = consume()
    seen = []
    for _ in range(8):
        seen.append(next(consumer))
        settle(owner, consumer, seen[-1])

    kinds = [delivery.message_id.split()[0] for delivery in seen]
    assert {"suspect", "innocent"} == set(kinds[:4]) == set(kinds[4:])


def test_arguments_that_do_not_fit_fail_at_once_and_hold_nobody_up(owner, desk):
    task = NewTask("bad", "test-claims-known", QUEUE, '{"y": 1}', "{}", 0, None, NOW)
    owner.ledger.write(partial(accept.enqueue, task=task, now=NOW))
    put(owner, "good")

    assert next(consume()).message_id == "good"
    owner.ledger.submit(lambda _tx: None, patient=True).result(10)
    bad = view(owner, "bad")
    assert (bad.state, bad.reason) == (State.FAILED, Reason.BAD_ARGUMENTS)
    with owner.ledger.read() as connection:
        assert [a.outcome for a in queries.attempts(connection, "bad")] == ["failed"]


def test_a_worker_that_stops_claims_nothing_and_gives_back_what_it_has_not_started(owner, desk):
    for n in range(3):
        put(owner, f"{n}")
    consumer = consume(timeout=SHORT_MS)
    started, waiting = next(consumer), next(consumer)
    started.begin()
    desk.holdings.close()
    consumer.requeue([])
    owner.ledger.submit(lambda _tx: None, patient=True).result(10)

    assert waiting.begin() is False
    assert next(consumer) is None
    states = [view(owner, f"{n}").state for n in range(3)]
    assert states == [State.RUNNING, State.QUEUED, State.QUEUED]
    assert view(owner, "1").attempts == 0


@pytest.mark.parametrize("refuse", ["close", "suspend"])
def test_a_claim_whose_turn_comes_after_the_worker_has_begun_to_stop_takes_nothing(
    owner, desk, refuse
):
    put(owner, "waiting")
    consumer = consume(timeout=SHORT_MS)
    # The writer gets to this before it gets to the claim that the consumer, seeing room, asks for.
    owner.ledger.submit(lambda _tx: getattr(desk.holdings, refuse)())

    assert next(consumer) is None
    with owner.ledger.read() as connection:
        moved = connection.execute(text("SELECT state, generation FROM postlude_tasks")).one()
    assert moved == ("queued", 1)


def test_an_outcome_that_comes_when_the_ledger_is_closed_is_dropped_without_alarm(owner, desk):
    put(owner, "late")
    consumer = consume()
    delivery = next(consumer)
    delivery.begin()
    owner.ledger.close()

    with structlog.testing.capture_logs() as lines:
        consumer.ack(delivery)

    told = [(line["event"], line["log_level"], line["task_ids"]) for line in lines]
    assert told == [("task.news_dropped", "warning", ["late"])]
    assert desk.holdings.ids() == set()


def test_the_consumer_of_a_life_that_is_over_says_so(owner, desk):
    consumer = consume()
    dead = partial(bury.bury, incarnation=owner.incarnation.id, now=NOW, death=Death.STOPPED)
    owner.ledger.write(dead)
    process._forget(owner)

    with pytest.raises(ConnectionClosed, match="this incarnation is over"):
        next(consumer)
    owner.close()
