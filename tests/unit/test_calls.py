"""A call without options becomes the task that the same message becomes, by a shorter way."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import dramatiq
import pytest
import structlog
from dramatiq.middleware import Middleware

from postlude.broker import broker
from postlude.dispatch import messages
from postlude.errors import BadArguments


@dramatiq.actor(queue_name="test-calls", priority=7, max_retries=3, time_limit=1_000)
def plain(x: int, *, note: str = "") -> None:
    """Never runs."""


@dramatiq.actor(queue_name="test-calls", unique_key="only-one", unique_for="queued")
def single(x: int) -> None:
    """Never runs."""


class Stamps(Middleware):
    """Puts an option into each message of these actors, as somebody's own middleware might."""

    def before_enqueue(self, broker, message, delay):
        if message.queue_name == "test-calls":
            message.options["stamp"] = f"{message.actor_name} {message.args}"


@pytest.fixture
def stamps():
    middleware = Stamps()
    broker().add_middleware(middleware)
    yield
    broker().middleware.remove(middleware)


def by_both_ways(actor, *args, **kwargs):
    short = messages.with_options(actor, args=args, kwargs=kwargs)
    long = broker().prepare(actor.message(*args, **kwargs))
    assert abs(short.created_at - long.created_at) < timedelta(minutes=1)
    return short, replace(long, id=short.id, created_at=short.created_at)


@pytest.mark.parametrize("actor", [plain, single])
def test_the_short_way_leads_to_the_same_task(actor):
    with structlog.contextvars.bound_contextvars(correlation_id="c-1"):
        short, long = by_both_ways(actor, 1)

    assert short == long
    assert short.correlation_id == "c-1"


def test_keyword_arguments_are_checked_and_coerced_on_the_short_way_too():
    short, long = by_both_ways(plain, "5", note="é")

    assert short == long
    assert short.arguments == '{"x":5,"note":"é"}'
    with pytest.raises(BadArguments, match="note"):
        messages.with_options(plain, args=(1,), kwargs={"note": 2})


@pytest.mark.usefixtures("stamps")
def test_whoever_wants_to_see_messages_sees_every_one():
    short, long = by_both_ways(plain, 1)

    assert short == long
    assert short.options == '{"stamp":"plain (1,)"}'


def test_arguments_may_come_one_by_one():
    task = messages.with_options(plain, args=iter([1]))

    assert task.arguments == '{"x":1}'
