"""The table of transitions, and that nothing but the transitions writes what it describes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from postlude.states import FINAL, TRANSITIONS, Reason, State

ROOT = Path(__file__).parents[2]
WRITES = re.compile(
    r"(?i)(insert\s+(or\s+\w+\s+)?into|update|delete\s+from|replace\s+into)\s+postlude_(tasks|attempts)"
)


def test_every_state_has_its_line_in_the_table():
    assert set(TRANSITIONS) == set(State)


def test_no_state_follows_itself_or_one_that_does_not_exist():
    for state, after in TRANSITIONS.items():
        assert state not in after
        assert after <= set(State)


def test_what_succeeded_stays_so():
    assert TRANSITIONS[State.SUCCEEDED] == frozenset()


@pytest.mark.parametrize("state", [State.FAILED, State.CANCELLED])
def test_what_ended_otherwise_can_only_be_made_to_run_again(state):
    assert TRANSITIONS[state] - {State.WAITING} == {State.QUEUED, State.SCHEDULED}


def test_only_a_running_task_can_succeed():
    assert [s for s, after in TRANSITIONS.items() if State.SUCCEEDED in after] == [State.RUNNING]


@pytest.mark.parametrize("state", sorted(set(State) - FINAL))
def test_every_state_that_is_not_final_leads_to_an_end(state):
    reached, rest = set(), {state}
    while rest:
        reached |= rest
        rest = set().union(*(TRANSITIONS[s] for s in rest if s not in FINAL)) - reached

    assert reached & FINAL


def test_states_and_reasons_fit_their_columns():
    assert max(map(len, State)) <= 9
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", word) for word in (*State, *Reason))


def test_only_the_transitions_write_tasks_and_attempts():
    writers = {
        path.relative_to(ROOT).parent.as_posix()
        for package in ("postlude", "actors", "api", "scheduler")
        for path in (ROOT / package).rglob("*.py")
        if WRITES.search(path.read_text(encoding="utf-8"))
    }

    assert writers == {"postlude/ledger/transitions"}


def test_every_transition_that_ends_tasks_sees_to_those_who_wait_for_them():
    ends = re.compile(r"(?i)set\s+state\s*=\s*('(succeeded|failed|cancelled)'|:state)")
    folder = ROOT / "postlude/ledger/transitions"
    texts = {path.stem: path.read_text(encoding="utf-8") for path in folder.glob("*.py")}

    ending = {name for name, text in texts.items() if ends.search(text)}

    assert {"outcome", "bury", "cancel", "release"} <= ending
    tied = ending - {"follow", "key"}  # what is a duplicate is tied to nothing
    assert [n for n in tied if not re.search(r"follow\.\w+\(tx", texts[n])] == []
