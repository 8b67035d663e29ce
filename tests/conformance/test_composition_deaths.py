"""What pipelines and groups may expect of every broker when workers are killed or frozen."""

from __future__ import annotations

import signal

from dramatiq import group

from postlude.states import Reason


def test_a_step_whose_worker_is_killed_runs_again_and_the_next_one_once(fleet, actors):
    first = fleet.start()
    pipe = (
        actors.add.message(1) | actors.hold_then_return.message("held") | actors.count_up.message()
    )
    together = group([pipe])
    together.add_completion_callback(actors.jot.message("complete"))
    together.run()
    fleet.noted("held")

    fleet.kill(first)
    fleet.let_go("held")
    fleet.start()

    fleet.noted("complete")
    outcomes = [[a.outcome for a in fleet.attempts(message)] for message in pipe.messages]
    assert outcomes == [["succeeded"], ["worker-died", "succeeded"], ["succeeded"]]
    assert fleet.journal() == ["held", "held", "up 3", "complete"]


def test_of_two_workers_one_releases_the_callback(fleet, actors):
    fleet.start()
    fleet.start()
    together = group(actors.jot.message("member") for _ in range(300))
    together.add_completion_callback(actors.jot.message("complete"))

    together.run()

    fleet.noted("complete")
    assert fleet.journal().index("complete") == 300
    fleet.until(lambda: fleet.count("state = 'succeeded'") == 301)
    assert fleet.count("attempts <> 1") == 0


def test_a_worker_that_wakes_up_late_releases_nothing(fleet, actors):
    frozen = fleet.start()
    pipe = actors.hold_then_return.message("held", 1) | actors.hold.message_with_options(
        args=("next",), pipe_ignore=True
    )
    pipe.run()
    fleet.noted("held")
    fleet.kill(frozen, signal.SIGSTOP)
    fleet.start()
    fleet.until(lambda: fleet.journal() == ["held", "held"])

    fleet.let_go("held")
    fleet.noted("next")
    fleet.kill(frozen, signal.SIGCONT)
    fleet.until(lambda: "late_news" in fleet.logs() or "news_dropped" in fleet.logs())
    fleet.let_go("next")

    assert fleet.ended(pipe.messages[1]).attempts == 1
    assert fleet.journal() == ["held", "held", "next"]


def test_a_quarantine_is_told_and_cancels_what_follows(fleet, actors):
    pipe = actors.die_and_tell.message() | actors.jot.message_with_options(
        args=("never",), pipe_ignore=True
    )
    pipe.run()

    fleet.wait(fleet.start())
    fleet.start()  # from here on it kills children

    assert fleet.ended(pipe.messages[0]).reason is Reason.CRASH_LOOP
    assert fleet.ended(pipe.messages[1]).reason is Reason.UPSTREAM_FAILED
    told = fleet.until(lambda: len(w := [w for w in fleet.journal() if "told" in w]) > 2 and w)
    assert all("ChildDied" in word for word in told)
