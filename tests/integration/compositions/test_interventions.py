"""Cancelling and trying again by request what is part of a pipeline or a group."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

import dramatiq
import pytest
from dramatiq import group

from postlude import interventions
from postlude.errors import BadOptions, NotRetryable
from postlude.ledger.transitions import hand_back
from postlude.ledger.transitions.retain import delete_finished
from postlude.states import Reason, State
from postlude.worker.retention import Retention

QUEUE = "compositions"
luck_is = {"ours": False}


@dramatiq.actor(actor_name="interventions-step", queue_name=QUEUE)
def step(x: int) -> int:
    return x + 1


@dramatiq.actor(actor_name="interventions-luck", queue_name=QUEUE, max_retries=0)
def luck(x: int) -> int:
    if not luck_is["ours"]:
        raise ValueError(x)
    return x


@dramatiq.actor(actor_name="interventions-told", queue_name=QUEUE)
def told() -> None:
    """Runs when a group has ended."""


@pytest.fixture(autouse=True)
def no_luck():
    luck_is["ours"] = False


def test_a_retried_step_takes_those_along_that_were_cancelled_with_it(site):
    pipe = (step.message(1) | luck.message() | step.message() | step.message()).run()
    site.work()
    assert site.states() == ["succeeded", "failed", "cancelled", "cancelled"]

    with pytest.raises(NotRetryable, match=f"retry {pipe.messages[2].message_id}"):
        interventions.retry(site.owner.ledger, pipe.messages[3].message_id)
    luck_is["ours"] = True
    interventions.retry(site.owner.ledger, pipe.messages[1].message_id)
    assert site.states() == ["succeeded", "queued", "waiting", "waiting"]
    site.work()

    assert pipe.get_result() == 4


def test_cancelling_a_step_cancels_what_waits_for_it(site):
    pipe = (step.message(1) | step.message() | step.message()).run()

    interventions.cancel(site.owner.ledger, pipe.messages[1].message_id)
    site.work()

    views = [site.view(message) for message in pipe.messages]
    assert [view.state for view in views] == [State.SUCCEEDED, State.CANCELLED, State.CANCELLED]
    assert [view.reason for view in views[1:]] == [Reason.BY_REQUEST, Reason.UPSTREAM_FAILED]


def test_a_cancelled_member_counts_as_ended_for_its_group(site):
    together = group([step.message(1), step.message(2)])
    together.add_completion_callback(told.message())
    one, other = together.run(delay=3_600_000).children

    interventions.cancel(site.owner.ledger, one.message_id)
    assert site.states() == ["cancelled", "scheduled", "waiting"]
    interventions.cancel(site.owner.ledger, other.message_id)

    assert site.states() == ["cancelled", "cancelled", "queued"]


def test_a_held_step_that_is_handed_back_when_it_should_be_cancelled_takes_the_others_along(site):
    pipe = (step.message(1) | step.message()).run()
    delivery = next(site.consumer)
    interventions.cancel(site.owner.ledger, pipe.messages[0].message_id)
    held = delivery.held.task

    site.owner.ledger.write(lambda tx: hand_back.hand_back(tx, held, now=held.claimed_at))

    assert site.states() == ["cancelled", "cancelled"]
    site.consumer.ack(delivery)


def test_a_step_that_would_be_tried_again_is_cancelled_and_takes_the_others_along(site):
    once = luck.message_with_options(args=(1,), max_retries=5, min_backoff=1)
    pipe = (once | step.message()).run()
    delivery = next(site.consumer)
    interventions.cancel(site.owner.ledger, pipe.messages[0].message_id)

    site.run(delivery)
    site.consumer.ack(delivery)
    site.settle()

    assert site.states() == ["cancelled", "cancelled"]


def test_what_was_cancelled_before_its_turn_is_not_tried_by_itself(site):
    pipe = (step.message(1) | step.message()).run()
    waiting = pipe.messages[1].message_id
    interventions.cancel(site.owner.ledger, waiting)

    with pytest.raises(NotRetryable, match="before its turn"):
        interventions.retry(site.owner.ledger, waiting)

    assert site.states() == ["queued", "cancelled"]


def test_the_steps_after_a_failed_one_are_kept_as_long_as_that(site):
    (luck.message(1) | step.message() | step.message()).run()
    site.work()
    alone = luck.send(1)
    interventions.cancel(
        site.owner.ledger, step.send_with_options(args=(1,), delay=9_999).message_id
    )
    site.work()
    later = site.view(alone).finished_at + timedelta(days=8)

    Retention(site.owner).clean(later)

    assert site.states() == ["failed", "cancelled", "cancelled", "failed"]


def test_a_step_whose_failed_one_is_deleted_says_so_when_somebody_retries_it(site):
    pipe = (luck.message(1) | step.message()).run()
    site.work()
    later = site.view(pipe.messages[0]).finished_at + timedelta(days=1)
    deleting = partial(delete_finished, state=State.FAILED, before=later, limit=9, now=later)
    site.owner.ledger.write(deleting)

    with pytest.raises(NotRetryable, match="the task before it had failed, and has been deleted"):
        interventions.retry(site.owner.ledger, pipe.messages[1].message_id)

    assert site.states() == ["cancelled"]


def test_a_step_cannot_be_unique(site):
    unique = step.message_with_options(args=(1,), unique_key="one")

    with pytest.raises(BadOptions, match="cannot have a unique_key"):
        (unique | step.message()).run()
    assert site.views() == []
