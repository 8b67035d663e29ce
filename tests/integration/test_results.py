"""Results of tasks: what whoever sent them reads, and that no outcome is lost for its words."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from functools import partial

import dramatiq
import pytest
from dramatiq.results import ResultFailure, ResultMissing, ResultTimeout

from postlude import process
from postlude.broker.delivery import Delivery, message_of
from postlude.ledger import clock, migrate
from postlude.ledger.queries import tasks as queries
from postlude.ledger.transitions import bury, cancel, claim, incarnation
from postlude.ledger.transitions.outcome import finish
from postlude.policy.crash import TOO_OFTEN, Death
from postlude.settings import load, settings
from postlude.states import Reason, State
from postlude.worker.holdings import Holdings

QUEUE = "test-results"
SHORT_MS = 50
LONG_MS = 20_000


@dramatiq.actor(actor_name="test-results-answer", queue_name=QUEUE)
def answer(x: int = 0) -> int:
    """Never runs here: these tests have no worker."""
    return x


@pytest.fixture
def ledger(monkeypatch, tmp_path):
    monkeypatch.setenv("POSTLUDE_DATA_DIR", str(tmp_path))
    process.close()
    settings.cache_clear()
    migrate.upgrade(load())
    yield process.current().ledger
    process.close()
    settings.cache_clear()


def take(ledger) -> Delivery:
    """Claim the one task that is queued, as a worker would."""
    write = partial(
        claim.claim,
        queue=QUEUE,
        actors=["test-results-answer"],
        owner="w",
        token="t",
        now=clock.now(),
        limit=1,
    )
    (task,) = ledger.write(write)
    holdings = Holdings(1)
    ((held,), _) = holdings.take([task])
    delivery = Delivery(message_of(task, (), {}), held, holdings)
    assert delivery.begin()
    return delivery


def settle(ledger, delivery) -> None:
    write = partial(finish, task=delivery.task, outcome=delivery.outcome(), worker="w")
    assert ledger.write(write) is True


def fail(ledger, error: BaseException, reason: Reason = Reason.RETRIES_EXHAUSTED) -> None:
    delivery = take(ledger)
    delivery.note_failure(error)
    delivery.give_up(reason)
    settle(ledger, delivery)


def succeed(ledger, result) -> None:
    delivery = take(ledger)
    delivery.keep_result(result)
    delivery.succeed()
    settle(ledger, delivery)


def last_attempt(ledger, message):
    with ledger.read() as connection:
        return queries.attempts(connection, message.message_id)[-1]


def raised(error: BaseException) -> BaseException:
    """Return ``error`` with a traceback."""
    try:
        raise error
    except type(error) as caught:
        return caught


@pytest.mark.parametrize("value", [None, 0, "", [], {"a": [1.5, "ü"]}, False], ids=repr)
def test_a_result_is_what_the_actor_returned(ledger, value):
    message = answer.send()
    succeed(ledger, value)

    found = message.get_result()

    assert (found, type(found)) == (value, type(value))


def test_a_task_that_has_not_ended_has_no_result_yet(ledger):
    message = answer.send()

    with pytest.raises(ResultMissing):
        message.get_result()
    take(ledger)
    with pytest.raises(ResultMissing):
        message.get_result()


def test_a_task_that_does_not_exist_has_no_result(ledger):
    with pytest.raises(ResultMissing):
        answer.message().get_result()


def test_whoever_waits_in_vain_is_told_after_its_timeout(ledger):
    message = answer.send()
    started = datetime.now(UTC)

    with pytest.raises(ResultTimeout):
        message.get_result(block=True, timeout=SHORT_MS)

    assert datetime.now(UTC) - started >= timedelta(milliseconds=SHORT_MS)


def test_a_timeout_of_zero_looks_once(ledger):
    message = answer.send()
    with pytest.raises(ResultTimeout):
        message.get_result(block=True, timeout=0)
    succeed(ledger, 1)

    assert message.get_result(block=True, timeout=0) == 1


def test_whoever_waits_is_woken_by_the_outcome(ledger):
    message = answer.send()
    found = []
    waiting = threading.Thread(
        target=lambda: found.append(message.get_result(block=True, timeout=LONG_MS))
    )
    waiting.start()
    succeed(ledger, 42)
    waiting.join(LONG_MS / 1000)

    assert found == [42]


def test_a_failure_says_what_was_raised(ledger):
    message = answer.send()
    fail(ledger, raised(KeyError("name")))

    with pytest.raises(ResultFailure) as caught:
        message.get_result(block=True, timeout=LONG_MS)

    assert str(caught.value) == "actor raised KeyError: 'name'"
    assert (caught.value.orig_exc_type, caught.value.orig_exc_msg) == ("KeyError", "'name'")


def test_a_cancelled_task_says_so(ledger):
    message = answer.send()
    ledger.write(partial(cancel.cancel_queue, queue=QUEUE, now=clock.now()))

    with pytest.raises(ResultFailure, match="by-request: it was cancelled"):
        message.get_result()


def test_a_task_whose_workers_died_says_so(ledger):
    message = answer.send()
    for number in range(TOO_OFTEN):
        ledger.write(
            partial(
                incarnation.appear,
                incarnation=f"w{number}",
                kind="worker",
                host="h",
                pid=1,
                version="1",
                queues=[],
                now=clock.now(),
            )
        )
        taking = partial(
            claim.claim,
            queue=QUEUE,
            actors=["test-results-answer"],
            owner=f"w{number}",
            token=f"{number}",
            now=clock.now(),
            limit=1,
            suspects=(0, 1, 1, 2)[min(number, 3)],
        )
        assert len(ledger.write(taking)) == 1
        dying = partial(bury.bury, incarnation=f"w{number}", now=clock.now(), death=Death.PROVEN)
        ledger.write(dying)

    with pytest.raises(ResultFailure, match="actor raised WorkerDied: the worker process died"):
        message.get_result()


@pytest.mark.parametrize(
    ("words", "stored"),
    [
        ("NUL \x00 inside", "NUL \\x00 inside"),
        ("half \ud83d a character", "half \\ud83d a character"),
        ("\ud83d\ude00", "\\ud83d\\ude00"),
        ("ünïcode \N{PILE OF POO}", "ünïcode \N{PILE OF POO}"),
        ("", ""),
        ("line\nline\r\n\x1b[31m", "line\nline\r\n\x1b[31m"),
    ],
    ids=["nul", "surrogate", "two surrogates", "unicode", "nothing", "control"],
)
def test_no_words_of_an_error_keep_its_outcome_from_being_stored(ledger, words, stored):
    message = answer.send()
    fail(ledger, raised(ValueError(words)))

    attempt = last_attempt(ledger, message)
    assert (attempt.error_type, attempt.error_message) == ("ValueError", stored)
    assert "ValueError" in attempt.traceback
    with pytest.raises(ResultFailure):
        message.get_result()


def test_an_error_whose_own_text_is_broken_is_stored_by_its_type(ledger):
    class MuteError(Exception):
        def __str__(self):
            raise RuntimeError

    message = answer.send()
    fail(ledger, raised(MuteError()))

    attempt = last_attempt(ledger, message)
    assert attempt.error_type.endswith("MuteError")
    assert "cannot be had: RuntimeError" in attempt.error_message


def test_an_error_of_any_length_is_stored_in_part(ledger):
    message = answer.send()
    fail(ledger, raised(ValueError("x" * 10_000_000)))

    attempt = last_attempt(ledger, message)
    assert len(attempt.error_message) <= 16_000
    assert len(attempt.traceback) <= 16_000


def test_an_error_that_repeats_itself_deeply_is_stored_in_part(ledger):
    def dive(depth):
        return dive(depth + 1)

    message = answer.send()
    try:
        dive(0)
    except RecursionError as error:
        fail(ledger, error)

    attempt = last_attempt(ledger, message)
    assert attempt.error_type == "RecursionError"
    assert len(attempt.traceback) <= 16_000


@pytest.mark.parametrize("delay_ms", [1_795_494_619_520_417, 10**18, 10**30])
def test_a_retry_in_an_impossible_future_still_has_an_outcome(ledger, delay_ms):
    """Such as a time in microseconds where a delay in milliseconds was asked for."""
    message = answer.send()
    delivery = take(ledger)
    delivery.reschedule(delay_ms)
    settle(ledger, delivery)

    with ledger.read() as connection:
        view = queries.get(connection, message.message_id)
    assert view.state is State.SCHEDULED
    assert view.run_at > clock.now() + timedelta(days=365)


@pytest.mark.parametrize(
    "value",
    [object(), float("nan"), "\ud800", {1: {2, "x"}, "y": float("inf")}, b"\xff" * 600_000],
    ids=["object", "nan", "surrogate", "infinity", "large"],
)
def test_a_result_that_cannot_be_stored_is_dropped_and_the_task_has_succeeded(ledger, value):
    message = answer.send()
    succeed(ledger, value)

    assert message.get_result() is None
    with ledger.read() as connection:
        assert queries.get(connection, message.message_id).state is State.SUCCEEDED
