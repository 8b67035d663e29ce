"""What stops at the door of every broker, and which tasks a worker takes from its queues."""

from __future__ import annotations

import pytest

from postlude.errors import BadArguments, UnknownActor
from postlude.states import State


@pytest.mark.parametrize("arguments", [(), ("one",), (1, 2, 3), (float("nan"),)])
def test_bad_arguments_stop_at_the_door(fleet, actors, arguments):
    with pytest.raises(TypeError) as caught:
        actors.add.send(*arguments)

    assert isinstance(caught.value, BadArguments)
    assert "add()" in str(caught.value)
    assert fleet.count("1 = 1") == 0


def test_an_unknown_actor_stops_at_the_door(fleet, actors):
    message = actors.add.message(1).copy(actor_name="substract")

    with pytest.raises(UnknownActor, match=r"'substract'; known: .*add"):
        actors.add.broker.enqueue(message)

    assert fleet.count("1 = 1") == 0


def test_better_priorities_run_first(fleet, actors):
    for word, priority in (("c", 20), ("a", -5), ("b", 0)):
        actors.jot.send_with_options(args=(word,), priority=priority)
    fleet.start(threads=1)

    fleet.noted("c")

    assert fleet.journal() == ["a", "b", "c"]


def test_a_worker_serves_only_the_queues_it_is_told_to(fleet, actors):
    there = actors.in_another_queue.send()
    here = actors.jot.send("here")

    fleet.start("-Q", actors.QUEUE)

    assert fleet.ended(here).state is State.SUCCEEDED
    assert fleet.view(there).state is State.QUEUED


def test_two_processes_of_one_worker_share_its_tasks(fleet, actors):
    fleet.start("-p", "2", threads=1)
    fleet.until(lambda: fleet.logs().count("worker.ready") == 2)

    messages = [actors.hold.send("both") for _ in range(2)]

    fleet.until(lambda: fleet.journal() == ["both", "both"])
    holders = {fleet.view(message).holder for message in messages}
    fleet.let_go("both")
    assert len(holders) == 2
    assert {fleet.ended(message).state for message in messages} == {State.SUCCEEDED}


def test_a_watching_worker_starts_anew_when_its_code_changes(fleet, actors, tmp_path):
    watched = tmp_path / "code"
    watched.mkdir()
    fleet.start("--watch", str(watched))
    before = actors.hold.send("before")
    fleet.noted("before")
    first = fleet.view(before).holder
    fleet.let_go("before")

    def changed() -> bool:
        """Say whether the change was seen; the watcher starts a moment after the worker."""
        if "Detected changes" not in fleet.logs():
            (watched / "changed.py").write_text("changed = True\n")
        return fleet.logged("worker.ready") == 2

    fleet.until(changed)
    after = actors.hold.send("after")
    fleet.noted("after")
    second = fleet.view(after).holder
    fleet.let_go("after")

    assert fleet.ended(before).state is State.SUCCEEDED
    assert fleet.ended(after).state is State.SUCCEEDED
    assert first != second
