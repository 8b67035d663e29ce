"""The broker's edges where code written for Dramatiq's own brokers meets it."""

from __future__ import annotations

from datetime import UTC, datetime

import dramatiq
import pytest
import structlog
from dramatiq import middleware as stock
from dramatiq.errors import QueueNotFound
from dramatiq.results import Results

from postlude.broker import PostludeBroker
from postlude.broker.delivery import Delivery, message_of
from postlude.ledger.task import Claimed
from postlude.middleware import default_middleware
from postlude.middleware.interrupts import Interrupts
from postlude.worker.holdings import Holdings

PLACES = {
    stock.AgeLimit: "AgeLimit",
    stock.Retries: "Retries",
    stock.Callbacks: "Callbacks",
    Results: "Results",
    stock.AsyncIO: "EventLoop",
    stock.CurrentMessage: "CurrentMessage",
    stock.ShutdownNotifications: "Shutdown",
    stock.TimeLimit: "TimeLimit",
}


@pytest.fixture
def broker():
    interrupts = Interrupts()
    return PostludeBroker(default_middleware(interrupts), interrupts)


class Theirs(stock.Middleware):
    """A middleware that somebody brings along."""


def names(broker) -> list[str]:
    return [type(found).__name__ for found in broker.middleware]


@pytest.mark.parametrize(("place", "ours"), PLACES.items(), ids=PLACES.values())
def test_a_middleware_goes_beside_what_stands_in_for_dramatiqs(broker, place, ours):
    at = names(broker).index(ours)

    broker.add_middleware(Theirs(), before=place)
    broker.add_middleware(Theirs(), after=place)

    assert names(broker)[at : at + 3] == ["Theirs", ours, "Theirs"]


def test_a_middleware_without_a_place_goes_last(broker):
    broker.add_middleware(Theirs())

    assert names(broker)[-1] == "Theirs"


def test_a_middleware_cannot_go_beside_one_that_is_not_there(broker):
    with pytest.raises(ValueError, match="Theirs"):
        broker.add_middleware(Theirs(), before=Theirs)


def test_a_queue_that_no_actor_has_is_refused_by_name(broker):
    actor = dramatiq.actor(lambda: None, broker=broker, actor_name="test-broker", queue_name="mail")
    misspelt = actor.message().copy(queue_name="mial")

    for use in (
        lambda: broker.enqueue(misspelt),
        lambda: broker.consume("mial"),
        lambda: broker.join("mial"),
        lambda: broker.flush("mial"),
    ):
        with pytest.raises(QueueNotFound, match=r"'mial'.*known.*: mail"):
            use()


@pytest.mark.parametrize(("error", "level"), [(KeyError, "info"), (OSError, "warning")])
def test_a_failure_that_throws_names_is_no_cause_for_alarm(broker, error, level):
    dramatiq.actor(
        lambda: None, broker=broker, actor_name="test-broker", throws=LookupError, max_retries=0
    )
    now = datetime(2026, 11, 24, tzinfo=UTC)
    task = Claimed(1, "1", "test-broker", "default", "{}", "{}", 0, 1, "t", 1, 0, False, now, now)
    holdings = Holdings(1)
    ((held,), _) = holdings.take([task])
    delivery = Delivery(message_of(task, (), {}), held, holdings)

    with structlog.testing.capture_logs() as lines:
        broker.emit_after("process_message", delivery, exception=error())

    assert [line["log_level"] for line in lines if line["event"] == "task.failed"] == [level]
