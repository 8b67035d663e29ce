"""The judge of G5 finds who was late, and excuses only for what nobody could help."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from evidence import Evidence
from hours import SECOND, Freeze
from promptness import promptness

DEATH, BURIAL = 10, 11


def life(id_, began, beat, *, ended=None, end=None):
    return SimpleNamespace(
        id=id_,
        kind="worker",
        pid=id_,
        started_at=began * SECOND,
        beat_at=beat * SECOND,
        ended_at=(ended or beat) * SECOND,
        end=end,
    )


def attempt(worker, claimed, *, outcome="succeeded"):
    at = claimed * SECOND
    return SimpleNamespace(worker=worker, claimed_at=at, started_at=at, outcome=outcome)


def storm(*others, again, outcome="worker-died"):
    """Worker 1 dies with a task, which runs once more at ``again``; ``others`` live, too."""
    task = SimpleNamespace(id="task", actor="a", seq=1)
    found = Evidence({"task": task})
    end = outcome.removeprefix("worker-")
    lives = [life(1, 0, DEATH, ended=BURIAL, end=end), *others]
    found.lives = {each.id: each for each in lives}
    found.ready = {each.id: each.started_at for each in lives}
    found.attempts[1] = [attempt(1, 5, outcome=outcome), attempt(2, again)]
    return found


def faults(found, *freezes):
    return [line.partition(" late")[0] for line in promptness(found, freezes)]


def test_ten_seconds_beside_a_worker_are_prompt_and_more_are_not():
    assert faults(storm(life(2, 0, 40), again=20)) == []
    assert faults(storm(life(2, 0, 40), again=21)) == ["G5: run again"]


def test_who_fell_silent_is_missed_later_with_the_default_lease():
    assert faults(storm(life(2, 0, 40), again=17, outcome="worker-silent")) == []
    assert faults(storm(life(2, 0, 40), again=18, outcome="worker-silent")) == ["G5: run again"]


def test_seconds_without_a_worker_do_not_count():
    assert faults(storm(life(2, 0, 15), life(3, 25, 40), again=30)) == []
    assert faults(storm(life(2, 0, 15), life(3, 25, 40), again=31)) == ["G5: run again"]


@pytest.mark.parametrize(("pid", "locks"), [(2, False), (7, True)])
def test_seconds_in_which_nobody_could_work_do_not_count(pid, locks):
    freeze = Freeze(frozenset([pid]), 12 * SECOND, locks, 17 * SECOND)

    assert faults(storm(life(2, 0, 40), again=25), freeze) == []
    assert faults(storm(life(2, 0, 40), again=26), freeze) == ["G5: run again"]


def test_the_freeze_of_somebody_else_is_no_excuse():
    freeze = Freeze(frozenset([7]), 12 * SECOND, False, 17 * SECOND)

    assert faults(storm(life(2, 0, 40), again=21), freeze) == ["G5: run again"]


def test_who_is_buried_late_is_found():
    found = storm(life(2, 0, 40), again=20)
    found.lives[1].ended_at = 21 * SECOND

    assert faults(found) == ["G5: buried"]
