"""How pipelines and groups unfold into tasks that know their places."""

from __future__ import annotations

import uuid

import dramatiq
import pytest
from dramatiq import group, pipeline

from postlude.broker import broker
from postlude.broker.composition import (
    Membership,
    Place,
    callbacks,
    is_composed,
    member,
    membership,
    renamed,
    unfold,
)
from postlude.errors import BadArguments, BadOptions


@dramatiq.actor(actor_name="composition-a")
def a(x: int, y: int = 0) -> int:
    """Never runs here."""


@dramatiq.actor(actor_name="composition-rest")
def rest(*args: int) -> None:
    """Never runs here."""


@dramatiq.actor(actor_name="composition-nothing", pipe_ignore=True)
def nothing() -> None:
    """Never runs here; what follows it in a pipeline does not get its result."""


def places(work, **options):
    return [step.place for step in unfold(broker(), work, **options)]


def delays(work, **options):
    return [step.delay for step in unfold(broker(), work, **options)]


def ids(messages):
    return [message.message_id for message in messages]


def test_each_step_of_a_pipeline_waits_for_the_one_before_it():
    pipe = a.message(1) | a.message() | a.message(2)
    first, second, third = ids(pipe.messages)

    steps = unfold(broker(), pipe)

    assert [step.message.message_id for step in steps] == [first, second, third]
    assert [step.place for step in steps] == [
        Place(followed=True),
        Place(waits_for=first, followed=True, piped=True),
        Place(waits_for=second, piped=True),
    ]
    assert not any(is_composed(step.message) for step in steps)


def test_a_pipeline_of_thousands_of_steps_unfolds():
    pipe = pipeline(a.message() for _ in range(5000))

    assert len(unfold(broker(), pipe)) == 5000


@pytest.mark.parametrize(
    ("before", "step", "piped"),
    [
        (a.message(1), a.message(), True),
        (a.message(1), a.message_with_options(args=(1,), pipe_ignore=True), False),
        (a.message_with_options(args=(1,), pipe_ignore=True), a.message(), True),
        (nothing.message(), a.message(1), False),
        (a.message(1), nothing.message(), True),
    ],
    ids=["neither", "the step", "the step before", "declared before", "declared by the step"],
)
def test_a_step_says_for_itself_that_it_takes_no_result_or_the_actor_before_it_does(
    before, step, piped
):
    assert places(before | step)[1].piped is piped


def test_the_longer_one_of_two_delays_counts_for_the_first_step():
    pipe = a.message_with_options(args=(1,), delay=70) | a.message_with_options(delay=900)

    assert delays(pipe) == [70, 900]
    assert delays(pipe, delay=50) == [70, 900]
    assert delays(pipe, delay=80) == [80, 900]
    assert delays(group([pipe, a.message(1)]), delay=80) == [80, 900, 80]


def test_the_last_step_of_each_member_counts_for_its_group_and_callbacks_wait_for_that():
    pipe, alone, told = a.message(1) | a.message(), a.message(2), a.message(3) | a.message()
    together = group([pipe, alone])
    together.add_completion_callback(told.messages[0])
    together.add_completion_callback(a.message(4))

    first, last, other, callback, further, second = places(together)

    group_id = last.group_id
    assert uuid.UUID(group_id)
    assert first == Place(followed=True)
    assert last == Place(pipe.messages[0].message_id, followed=True, group_id=group_id, piped=True)
    assert other == Place(followed=True, group_id=group_id)
    assert callback == Place(waits_for=group_id, followed=True)
    assert further == Place(waits_for=told.messages[0].message_id, piped=True)
    assert second == Place(waits_for=group_id)


def test_members_of_a_group_without_callbacks_are_tied_to_nothing():
    pipe = a.message(4) | a.message()
    inner = group([a.message(1), a.message(2)])

    assert places(group([inner, a.message(3), pipe])) == [*[Place()] * 3, *places(pipe)]


def test_dramatiqs_own_run_makes_the_same_of_a_group():
    together = group([a.message(1) | a.message()])
    together.add_completion_callback(a.message(4))
    enqueued = (
        together.children[0]
        .messages[1]
        .copy(
            options={
                "group_completion_uuid": "g",
                "group_completion_callbacks": together.completion_callbacks,
            }
        )
    )
    child = pipeline([together.children[0].messages[0], enqueued]).messages[0]

    found = membership(child)
    steps = member(broker(), child, "g", delay=None) + callbacks(broker(), found)

    assert found == Membership("g", tuple(together.completion_callbacks))
    assert [step.place for step in steps] == [
        Place(followed=True),
        Place(child.message_id, followed=True, group_id="g", piped=True),
        Place(waits_for="g"),
    ]
    assert not any(is_composed(step.message) for step in steps)


def test_under_new_ids_everybody_waits_for_the_same():
    steps = unfold(broker(), a.message(1) | a.message())
    told = callbacks(broker(), Membership("g", (a.message(1).asdict(),)))

    new = renamed([*steps, *told], ["one", "two", "three"])

    assert [step.message.message_id for step in new] == ["one", "two", "three"]
    assert [step.place.waits_for for step in new] == [None, "one", "g"]


def twice():
    message = a.message(1)
    return message, message


def tied(**options):
    return a.message_with_options(args=(1,), **options)


def with_callback(*children):
    together = group(children)
    together.add_completion_callback(a.message(1))
    return together


@pytest.mark.parametrize(
    ("work", "words"),
    [
        (pipeline([]), "without a message"),
        (pipeline(twice()), "in there twice"),
        (with_callback(*twice()), "in there twice"),
        (with_callback(), "never complete"),
        (with_callback(group([a.message(1)])), "cannot hold a group"),
        (with_callback(pipeline([])), "without a message"),
        (tied(pipe_target={}), "as Dramatiq writes them"),
        (tied(pipe_target="a"), "as Dramatiq writes them"),
        (tied(group_completion_uuid="g"), "set by group.run"),
        (tied(group_completion_callbacks=[{}]), "set by group.run"),
        (with_callback(tied(group_completion_uuid="stale")), "set by group.run"),
    ],
)
def test_what_cannot_be_run_as_a_whole_is_refused(work, words):
    with pytest.raises(BadOptions, match=words):
        unfold(broker(), work)


@pytest.mark.parametrize(
    ("work", "error", "words"),
    [
        (a.message(1) | a.message(1, 2), BadArguments, "takes 2 .* but 3 were given.*pipe_ignore"),
        (a.message(1) | nothing.message(), BadArguments, "takes 0 .* but 1 was given"),
        (a.message(1) | a.message(x=1), BadArguments, "multiple values for the argument 'x'"),
        (a.message(1) | rest.message(y=1), BadArguments, "unexpected argument 'y'"),
        (a.message(1) | rest.message("b"), BadArguments, "bad value"),
        (a.message(1) | tied(pipe_ignore="yes"), BadOptions, "pipe_ignore"),
        (a.message(1) | tied(pipe_ignore=True, delay="soon"), BadOptions, "delay"),
        (a.message(1) | tied(pipe_ignore=True, delay=4e11), BadOptions, "ten years"),
        (a.message_with_options(args=(1,), delay=True) | a.message(), BadOptions, "delay"),
    ],
)
def test_every_step_is_checked_at_the_door(work, error, words):
    with pytest.raises(error, match=words):
        broker().unfold(work)


def test_the_signature_decides_which_parameter_takes_the_result():
    late = a.message_with_options(args=(5,), delay=9)
    tasks = broker().unfold(a.message(1) | a.message() | late | rest.message() | rest.message(7))

    assert [(task.pipe_into, task.arguments) for task in tasks] == [
        (None, '{"x":1}'),
        ("x", "{}"),
        ("y", '{"x":5}'),
        ("args", '{"args":[]}'),
        ("args", '{"args":[7]}'),
    ]
    assert {task.run_at for task in tasks} == {None}
