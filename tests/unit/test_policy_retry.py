"""What follows a failure: Dramatiq's options with Dramatiq's meaning, held against Dramatiq itself."""

from __future__ import annotations

import dramatiq
import pytest
from dramatiq import common
from dramatiq.brokers.stub import StubBroker
from dramatiq.errors import Retry
from dramatiq.middleware import Retries
from dramatiq.middleware.retries import DEFAULT_MAX_BACKOFF, DEFAULT_MIN_BACKOFF
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from postlude.policy.retry import Again, Dead, RetryRules, after_failure, backoff_ms

JITTER = st.floats(0, 1, exclude_max=True)
SPANS = st.integers(0, 30 * 86_400_000)


class Recorder(StubBroker):
    """Stock Dramatiq, up to the message that it would put back."""

    delay: int | None = None

    def enqueue(self, message, *, delay=None):
        self.delay = delay
        return message


def stock(actor_options, task_options, error, retries) -> Again | Dead:
    """Ask Dramatiq's own middleware."""
    broker = Recorder(middleware=[Retries()])
    actor = dramatiq.actor(lambda: None, actor_name="a", broker=broker, **actor_options)
    message = actor.message().copy(options={**task_options, "retries": retries})
    proxy = dramatiq.broker.MessageProxy(message)
    broker.middleware[-1].after_process_message(broker, proxy, exception=error)
    return Dead(exhausted=True) if proxy.failed else Again(broker.delay)


def ours(actor_options, task_options, error, retries, jitter) -> Again | Dead:
    return after_failure(
        RetryRules.of(actor_options, task_options),
        error,
        retries=retries,
        wanted_ms=error.delay if isinstance(error, Retry) else None,
        jitter=jitter,
    )


OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "max_retries": st.one_of(st.none(), st.integers(0, 40)),
        "min_backoff": SPANS,
        "max_backoff": SPANS,
    },
)
ERRORS = st.one_of(
    st.builds(ValueError), st.builds(Retry, st.just("x"), st.integers(0, 10**9)), st.builds(Retry)
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(actor=OPTIONS, task=OPTIONS, error=ERRORS, retries=st.integers(0, 45), jitter=JITTER)
def test_decisions_and_delays_are_those_of_dramatiq(
    monkeypatch, *, actor, task, error, retries, jitter
):
    monkeypatch.setattr(common, "uniform", lambda low, high: low + (high - low) * jitter)

    assert ours(actor, task, error, retries, jitter) == stock(actor, task, error, retries)


@pytest.mark.parametrize("retries", [0, 1, 5])
def test_retry_when_decides_as_in_dramatiq(retries):
    options = {
        "retry_when": lambda retries, _error: retries < 3,
        "max_retries": 1,
        "min_backoff": 1,
    }

    found = ours(options, {}, ValueError(), retries, 0.0)

    assert type(found) is type(stock(options, {}, ValueError(), retries))
    assert isinstance(found, Again) == (retries < 3)


@pytest.mark.parametrize("throws", [ValueError, (KeyError, ValueError)])
def test_what_throws_names_is_never_retried(throws):
    options = {"throws": throws, "retry_when": lambda *_: True}

    assert ours(options, {}, ValueError(), 0, 0.0) == Dead(exhausted=False)
    assert stock(options, {}, ValueError(), 0) == Dead(exhausted=True)
    assert isinstance(ours(options, {}, OSError(), 0, 0.0), Again)


def test_the_defaults_are_those_of_dramatiq():
    rules = RetryRules.of({}, {})

    assert rules.max_retries == Retries().max_retries
    assert (rules.min_backoff, rules.max_backoff) == (DEFAULT_MIN_BACKOFF, DEFAULT_MAX_BACKOFF)


def test_a_tasks_own_options_come_before_those_of_its_actor():
    rules = RetryRules.of({"max_retries": 3, "min_backoff": 5}, {"max_retries": 0})

    assert (rules.max_retries, rules.min_backoff) == (0, 5)


@pytest.mark.parametrize(
    ("actor", "task"),
    [({"min_backoff": 0}, {}), ({}, {"min_backoff": 0}), ({}, {"max_backoff": 0})],
    ids=["of the actor", "of the task", "at most"],
)
def test_a_backoff_of_zero_means_at_once(actor, task):
    assert ours(actor, task, ValueError(), 0, 0.5) == Again(0)


def test_none_means_without_limit():
    assert isinstance(ours({"max_retries": None}, {}, ValueError(), 10**6, 0.5), Again)


def test_an_actor_that_asks_for_a_time_in_the_past_is_retried_at_once():
    assert ours({}, {}, Retry("now", delay=-5), 0, 0.5) == Again(0)


def test_a_wish_does_not_outlive_the_limit():
    assert ours({"max_retries": 2}, {}, Retry("again", delay=1), 2, 0.5) == Dead(exhausted=True)


@given(low=SPANS, high=SPANS, retries=st.integers(0, 10**6), jitter=JITTER)
def test_a_delay_is_never_negative_and_never_above_its_limit(low, high, retries, jitter):
    rules = RetryRules.of({}, {"min_backoff": low, "max_backoff": high})

    assert 0 <= backoff_ms(rules, retries, jitter) <= min(high, DEFAULT_MAX_BACKOFF)


def test_jitter_is_drawn_anew_for_every_failure():
    delays = {after_failure(RetryRules(), ValueError(), retries=3) for _ in range(20)}

    assert len(delays) > 10
