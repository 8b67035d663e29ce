"""What pipelines and groups may expect of every broker."""

from __future__ import annotations

from datetime import timedelta

import pytest
from dramatiq import group
from dramatiq.results import ResultFailure

from postlude.states import Reason, State

WAIT_MS = 20_000


def never(actors):
    return actors.jot.message_with_options(args=("never",), pipe_ignore=True)


def waits(crew, message) -> bool:
    return crew.view(message).state is State.WAITING


def test_a_pipeline_passes_results_on(crew, actors):
    pipe = actors.add.message(1) | actors.count_up.message() | actors.total.message(10, 20)

    pipe.run()

    assert pipe.get_result(block=True, timeout=WAIT_MS) == 34
    assert [crew.view(m).state for m in pipe.messages] == [State.SUCCEEDED] * 3
    assert pipe.completed


def test_a_step_with_a_delay_waits_for_it_when_its_turn_has_come(crew, actors):
    pipe = actors.add.message(1) | actors.add.message_with_options(delay=700)

    pipe.run(delay=100)
    pipe.get_result(block=True, timeout=WAIT_MS)

    first, second = (crew.view(message) for message in pipe.messages)
    assert first.started_at - first.created_at >= timedelta(milliseconds=100)
    assert second.started_at - first.finished_at >= timedelta(milliseconds=700)


def test_a_step_runs_when_the_one_before_it_has_succeeded_in_the_end(crew, actors):
    pipe = (
        actors.hold_then_return.message("go", 5)
        | actors.add.message(1)
        | actors.jot.message_with_options(args=("last",), pipe_ignore=True)
    )
    pipe.run()
    crew.noted("go")

    assert waits(crew, pipe.messages[1])
    crew.let_go("go")
    crew.noted("last")
    assert [crew.view(m).state for m in pipe.messages[:2]] == [State.SUCCEEDED] * 2


def test_what_is_downstream_of_a_failure_is_cancelled(crew, actors):
    pipe = actors.fail_always.message("x") | never(actors) | never(actors)
    pipe.run()

    with pytest.raises(ResultFailure):
        pipe.get_result(block=True, timeout=WAIT_MS)
    assert [crew.view(m).reason for m in pipe.messages] == [
        Reason.RETRIES_EXHAUSTED,
        Reason.UPSTREAM_FAILED,
        Reason.UPSTREAM_FAILED,
    ]
    assert crew.journal() == ["x"] * 3


def test_a_groups_callbacks_run_once_when_its_members_have_ended_one_way_or_another(crew, actors):
    together = group(
        [
            actors.hold_then_return.message("member", 1),
            actors.fail_always.message("failing"),
            actors.throw.message() | never(actors),
            actors.count_up.message(1) | actors.count_up.message(),
        ]
    )
    together.add_completion_callback(actors.jot.message("complete"))
    together.run()
    crew.until(lambda: crew.count("state = 'failed' AND followed = 1") >= 2)
    crew.noted("up 2")

    assert "complete" not in crew.journal()
    crew.let_go("member")
    crew.noted("complete")
    assert together.children[0].get_result(block=True, timeout=WAIT_MS) == 1
    assert crew.journal().count("complete") == 1


def test_many_members_that_end_at_once_release_the_callback_once(crew, actors):
    together = group(actors.jot.message("member") for _ in range(200))
    together.add_completion_callback(actors.jot.message("complete"))

    together.run()

    crew.noted("complete")
    assert crew.journal().index("complete") == 200
    assert crew.count("state = 'waiting'") == 0


def test_an_actor_runs_a_pipeline_of_its_own(crew, actors):
    parent = actors.run_pipeline.send(5)

    last = parent.get_result(block=True, timeout=WAIT_MS)

    crew.until(lambda: {"up 5", "up 6"} <= set(crew.journal()))
    assert last not in {parent.message_id, None}
