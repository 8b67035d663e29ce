"""Tasks that are unique: by ``send``, in requests, by options of their actor, and their results."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

import dramatiq
import pytest
from dramatiq.results import ResultFailure, ResultMissing

from postlude import BackgroundTasks, TaskHandle
from postlude.errors import BadOptions
from postlude.ledger import clock
from postlude.ledger.transitions import cancel, claim, outcome, retain
from postlude.ledger.transitions.outcome import Outcome
from postlude.states import Reason, State


@dramatiq.actor(actor_name="unique-report", unique_key="all", unique_for="queued")
def report(x: int = 0) -> None:
    """Never runs here."""


@dramatiq.actor(actor_name="unique-remind", unique_for=timedelta(minutes=10))
def remind(x: int = 0) -> None:
    """Never runs here."""


def take(life, actor):
    """Claim a task as a worker would."""
    taking = partial(
        claim.claim,
        queue="default",
        actors=[actor.actor_name],
        owner="w",
        token="t",
        now=clock.now(),
        limit=1,
    )
    (held,) = life.ledger.write(taking)
    return held


def end(life, actor, state=State.SUCCEEDED, **changes):
    held, now = take(life, actor), clock.now()
    done = Outcome(state, str(state), now, now, **changes)
    assert life.ledger.write(partial(outcome.finish, task=held, outcome=done, worker="w"))


def states(life):
    return [str(view.reason or view.state) for view in life.views()]


def test_what_is_sent_twice_under_one_key_is_queued_once(life, keep):
    first = keep.send_with_options(args=(1,), unique_key="k")
    second = keep.send_with_options(args=(2,), unique_key="k")
    keep.send_with_options(args=(3,), unique_key="other")
    keep.send(4)

    assert states(life) == ["queued", "duplicate", "queued", "queued"]
    duplicate = life.views()[1]
    assert (duplicate.id, duplicate.duplicate_of) == (second.message_id, first.message_id)
    assert duplicate.finished_at is not None
    assert duplicate.options == {"unique_key": "k", "unique_for": "unfinished"}
    assert TaskHandle(second.message_id).state() is State.CANCELLED


def test_once_the_first_has_ended_its_key_is_free(life, keep):
    keep.send_with_options(args=(1,), unique_key="k")
    end(life, keep)

    keep.send_with_options(args=(2,), unique_key="k")

    assert states(life) == ["succeeded", "queued"]


def test_a_retry_keeps_the_key(life, keep):
    keep.send_with_options(args=(1,), unique_key="k")
    end(life, keep, State.SCHEDULED, run_at=clock.now() + timedelta(hours=1), retries=1)

    keep.send_with_options(args=(2,), unique_key="k")

    assert states(life) == ["scheduled", "duplicate"]


@pytest.mark.parametrize("span", [600_000, timedelta(minutes=10), "10m"])
def test_a_period_goes_on_after_the_first_has_ended(life, keep, span):
    keep.send_with_options(args=(1,), unique_key="k", unique_for=span)
    end(life, keep)

    keep.send_with_options(args=(2,), unique_key="k", unique_for=span)

    assert states(life) == ["succeeded", "duplicate"]


def test_a_period_that_is_over_keeps_nobody_out(life, keep):
    keep.send_with_options(args=(1,), unique_key="k", unique_for=1)
    first = life.views()[0]
    while clock.now() < first.created_at + timedelta(milliseconds=1):
        pass

    keep.send_with_options(args=(2,), unique_key="k", unique_for=1)

    assert states(life) == ["queued", "queued"]


def test_a_delayed_task_has_its_key_while_it_waits(life, keep):
    keep.send_with_options(args=(1,), unique_key="k", unique_for="queued", delay=3_600_000)

    keep.send_with_options(args=(2,), unique_key="k", unique_for="queued")

    assert states(life) == ["scheduled", "duplicate"]


def test_an_actor_may_be_unique_as_a_whole(life):
    report.send(1)
    report.send(2)
    report.send_with_options(args=(3,), unique_key=None)
    take(life, report)
    report.send(4)

    assert states(life) == ["running", "duplicate", "queued", "queued"]


def test_an_actor_may_say_how_long_its_tasks_keep_their_keys(life):
    remind.send_with_options(args=(1,), unique_key="k")
    end(life, remind)

    remind.send_with_options(args=(2,), unique_key="k")
    remind.send_with_options(args=(3,), unique_key="k", unique_for="unfinished")
    remind.send(4)

    assert states(life) == ["succeeded", "duplicate", "duplicate", "queued"]


def test_a_key_that_makes_no_sense_is_refused_where_the_task_is_added(life, keep):
    with pytest.raises(BadOptions, match="unique_key must be a text"):
        keep.send_with_options(args=(1,), unique_key="")
    with pytest.raises(BadOptions, match="unique_for needs a unique_key"):
        keep.send_with_options(args=(1,), unique_for="queued")

    assert life.views() == []


# In requests


def test_of_two_requests_the_first_to_start_its_response_gets_the_key(site, keep):
    @site.app.post("/{number}")
    async def endpoint(number: int, tasks: BackgroundTasks):
        return tasks.add_task_with_options(keep, args=(number,), unique_key="k").id

    ids = [site.call("POST", f"/{number}").json() for number in (1, 2)]

    assert [view.id for view in site.views()] == ids
    assert states(site.life) == ["queued", "duplicate"]
    assert site.views()[1].duplicate_of == ids[0]


def test_within_one_request_the_first_that_was_added_gets_the_key(one_site, keep):
    @one_site.app.post("/")
    async def endpoint(tasks: BackgroundTasks):
        for number in (1, 2):
            tasks.add_task_with_options(keep, args=(number,), unique_key="k")

    one_site.call("POST", "/")

    assert states(one_site.life) == ["queued", "duplicate"]


def test_a_request_that_fails_takes_no_key(site, keep):
    @site.app.post("/{fails}")
    async def endpoint(fails: bool, tasks: BackgroundTasks):
        tasks.add_task_with_options(keep, args=(1,), unique_key="k")
        if fails:
            raise RuntimeError

    assert site.call("POST", "/true").status_code == 500
    assert site.call("POST", "/false").status_code == 200

    assert states(site.life) == ["queued"]


def test_a_task_that_is_withdrawn_gives_its_key_back(one_site, keep):
    @one_site.app.post("/{called}")
    async def endpoint(called: bool):
        tasks = BackgroundTasks()
        tasks.add_task_with_options(keep, args=(1,), unique_key="k")
        if called:
            await tasks()

    one_site.call("POST", "/false")
    assert states(one_site.life) == ["request-failed"]
    keep.send_with_options(args=(2,), unique_key="k")

    assert states(one_site.life) == ["request-failed", "queued"]


# Results


def test_the_result_of_a_duplicate_is_that_of_the_task_with_the_key(life, keep):
    keep.send_with_options(args=(1,), unique_key="k")
    duplicate = keep.send_with_options(args=(2,), unique_key="k")

    with pytest.raises(ResultMissing):
        duplicate.get_result()
    end(life, keep, result="42")

    assert duplicate.get_result() == 42
    assert TaskHandle(duplicate.message_id).get_result(block=True, timeout=1000) == 42


def test_a_duplicate_of_a_task_that_failed_has_failed_too(life, keep):
    keep.send_with_options(args=(1,), unique_key="k")
    duplicate = keep.send_with_options(args=(2,), unique_key="k")
    life.ledger.write(partial(cancel.cancel_queue, queue="default", now=clock.now()))

    with pytest.raises(ResultFailure, match="by-request: it was cancelled"):
        duplicate.get_result()


def test_a_duplicate_of_a_task_that_is_no_longer_retained_says_what_it_was(life, keep):
    keep.send_with_options(args=(1,), unique_key="k")
    duplicate = keep.send_with_options(args=(2,), unique_key="k")
    end(life, keep)
    now = clock.now()
    deleting = partial(retain.delete_finished, before=now, limit=1, now=now)
    assert life.ledger.write(partial(deleting, state=State.SUCCEEDED)) == 1

    with pytest.raises(ResultFailure, match=f"{Reason.DUPLICATE}: it was cancelled"):
        duplicate.get_result()
