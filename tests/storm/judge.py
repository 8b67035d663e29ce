"""What must hold when the storm is over and everything has come to its end (G1 to G7).

A worker that is killed from outside cannot be told from one that has crashed: whatever it held becomes
suspect and runs in a child, which is no blame yet. Blame is a death on a task's own account
(``crashes``), or ``crash-loop``: only tasks that kill what runs them may ever have that.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from evidence import number_of
from fates import FATES, Manner

from postlude.states import FINAL, TRANSITIONS, State

if TYPE_CHECKING:
    from collections.abc import Iterator

    from evidence import Evidence
    from fates import Fate, Request

WITHDRAWN = "request-failed"
CUT_SHORT = {"worker-died", "worker-silent", "interrupted"}
"""Outcomes that others had to write down: the actor may have run then, or not, or still run."""
LAST_WORDS = {
    "succeeded": {"succeeded"},
    "failed": {"failed", "child-died"},
    "cancelled": {"cancelled", None, *CUT_SHORT},
}
"""How the last attempt of a task in this state has ended; None: it was never attempted."""
SECOND = 1_000_000


def verdict(found: Evidence, requests: list[Request], fallen: Counter[str]) -> list[str]:
    """Return every promise that was broken. ``fallen``: processes that ended though nobody told them to."""
    faults = [*_asked_for(found, requests), *_ticks(found), *_deaths(found, fallen)]
    for task in found.tasks.values():
        attempts, runs = found.attempts[task.seq], found.began[task.id]
        faults += _moves(found.moves[task.seq], task)
        faults += _records(task, attempts)
        faults += _runs(task, attempts, runs, found.ended[task.id])
    faults += _after_the_response(found, requests)
    return faults


def _asked_for(found: Evidence, requests: list[Request]) -> Iterator[str]:
    """G1, G2, G5: what was promised is there once and ended as it should, what was denied never ran."""
    by_number = defaultdict(list)
    for task in found.tasks.values():
        if (number := number_of(task)) is not None:
            by_number[number].append(task)
    for request in requests:
        read = (id_ for ids in request.ids.values() for id_ in ids)
        for id_ in (id_ for id_ in read if id_ not in found.tasks):
            yield f"G1: {id_} of request {request.number} was promised and is not there"
        for number, fate in request.tasks:
            tasks = [task for task in by_number[number] if task.reason != WITHDRAWN]
            withdrawn = [task for task in by_number[number] if task.reason == WITHDRAWN]
            yield from _never_ran(found, withdrawn)
            yield from _promise(request, number, FATES[fate], tasks)


def _never_ran(found: Evidence, withdrawn: list[Any]) -> Iterator[str]:
    for task in withdrawn:
        if found.began[task.id] or task.attempts:
            yield f"G2: {_name(task)} was withdrawn and ran"


def _promise(request: Request, number: int, fate: Fate, tasks: list[Any]) -> Iterator[str]:
    actors = sorted(task.actor for task in tasks)
    if request.manner is Manner.REFUSED or request.denied:
        if tasks:
            yield f"G2: {number} of request {request.number} ({request.denied}) has {actors}"
    elif (request.promised or actors) and actors != sorted(fate.actors):
        yield f"G1: {number} of request {request.number} has {actors}, not {fate.actors}"
    if request.manner is Manner.KEYED and not request.promised:
        yield f"G1: request {request.number} was never answered"
    for task in tasks:
        yield from _end(task, fate)


def _end(task: Any, fate: Fate) -> Iterator[str]:
    """G1, G5: a task ends as its kind does, and deaths are blamed on those that have caused them."""
    if task.state not in fate.state:
        yield f"G1: {_name(task)} is {task.state} ({task.reason})"
    elif task.reason != fate.reason and task.state != State.CANCELLED:
        yield f"G1: {_name(task)} is {task.state} because of {task.reason}"
    if task.retries != fate.retries:
        yield f"G5: {_name(task)} was retried {task.retries} times, not {fate.retries}"
    if task.crashes not in fate.crashes:
        yield f"G5: {_name(task)} is blamed for {task.crashes} deaths, not {fate.crashes}"


def _moves(moves: list[Any], task: Any) -> Iterator[str]:
    """G4: only moves that there may be, none of what is finished."""
    for move in moves:
        if move.was in FINAL:
            yield f"G4: {_name(task)} was {move.was} and became {move.became}"
        elif State(move.became) not in TRANSITIONS[State(move.was)]:
            yield f"G7: {_name(task)} went from {move.was} to {move.became}"
    for earlier, later in pairwise(moves):
        if earlier.became != later.was:
            yield f"G7: {_name(task)} became {earlier.became} and was {later.was}"
    if moves and moves[-1].became != task.state:
        yield f"G7: {_name(task)} became {moves[-1].became} and is {task.state}"


def _records(task: Any, attempts: list[Any]) -> Iterator[str]:
    """G7: the attempts tell of the task what its own row says."""
    outcomes = [attempt.outcome for attempt in attempts]
    counts = Counter(outcomes)
    name = f"{_name(task)} ({task.state}, {outcomes})"
    if [attempt.number for attempt in attempts] != list(range(1, task.attempts + 1)):
        yield f"G7: {name} counts {task.attempts} attempts"
    if (outcomes[-1] if outcomes else None) not in LAST_WORDS[task.state]:
        yield f"G7: {name} did not end with its last attempt"
    if counts["succeeded"] != (task.state == State.SUCCEEDED):
        yield f"G4: {name} has succeeded {counts['succeeded']} times"
    if (task.retries, task.crashes) != (counts["retried"], counts["child-died"]):
        yield f"G7: {name} counts {task.retries} retries, {task.crashes} crashes"
    if task.owner or task.token or task.cancel_requested or not task.finished_at:
        yield f"G7: {name} is finished and still {task.owner}'s"
    for attempt in attempts:
        if not attempt.claimed_at <= (attempt.started_at or attempt.claimed_at):
            yield f"G7: {name} started before it was claimed"


def _runs(task: Any, attempts: list[Any], began: list[int], ended: list[int]) -> Iterator[str]:
    """G4, G5: one run for each attempt, except that of one that was cut short nobody can know."""
    words = [attempt.outcome for attempt in attempts]
    cut_short = sum(word in CUT_SHORT for word in words)
    never_begun = sum(attempt.outcome == "cancelled" for attempt in attempts)
    own = len(words) - cut_short - never_begun
    name = f"{_name(task)} ({words})"
    if not own <= len(began) <= len(words):
        yield f"G4: {name} ran {len(began)} times"
    if task.state == State.SUCCEEDED and not 1 <= len(ended) <= 1 + cut_short:
        yield f"G4: {name} came to its end {len(ended)} times"
    late = sum(at > task.finished_at for at in began) if task.finished_at else 0
    if late > sum(word == "worker-silent" for word in words):
        yield f"G4: {name} ran {late} times after it had finished"


def _after_the_response(found: Evidence, requests: list[Request]) -> Iterator[str]:
    """G3: no task has begun before its response was out, or the process that owed it dead."""
    asked = {str(number): str(r.number) for r in requests for number, _ in r.tasks}
    for task in found.tasks.values():
        first = next(iter(found.moves[task.seq]), None)
        if first is None or not found.began[task.id] or number_of(task) is None:
            continue
        request = asked[str(number_of(task))]
        if first.was == State.WAITING:  # its turn came when that of another one was over
            continue
        life = found.lives.get(first.owner)
        free = [*found.sent[request], *found.gone[request], life and life.ended_at]
        if not any(at and at <= found.began[task.id][0] for at in free):
            yield f"G3: {_name(task)} of request {request} began before the response was out"


def _ticks(found: Evidence) -> Iterator[str]:
    """G6: each second has its tick, each tick its task, each task its tick."""
    made = [tick.task for tick in found.ticks if tick.task]
    ticked = {task.id for task in found.tasks.values() if task.actor == "storm_ticked"}
    if sorted(made) != sorted(ticked):
        yield f"G6: {len(made)} ticks have made {len(ticked)} tasks"
    for earlier, later in pairwise(found.ticks):
        if later.scheduled_for - earlier.scheduled_for != SECOND:
            yield f"G6: no tick between {earlier.scheduled_for} and {later.scheduled_for}"
    for tick in found.ticks:
        if tick.outcome != "queued":
            yield f"G6: the tick of {tick.scheduled_for} was {tick.outcome} ({tick.reason})"
    for id_ in ticked:
        if found.tasks[id_].state != State.SUCCEEDED or found.tasks[id_].crashes:
            yield f"G1: {_name(found.tasks[id_])} is {found.tasks[id_].state}"


def _deaths(found: Evidence, fallen: Counter[str]) -> Iterator[str]:
    """G5: nobody has died of anything but blows and deadly tasks, and all the dead are known as such."""
    deadly = [t for t in found.tasks.values() if t.actor in {"storm_deadly", "storm_stumbling"}]
    # The first time it kills a worker, and again if nobody knew that it had run before.
    tries = sum(a.outcome != "child-died" for task in deadly for a in found.attempts[task.seq])
    if fallen["worker"] > tries:
        yield f"G5: {fallen['worker']} workers fell, and {tries} runs can have caused that"
    # One that is frozen may hold the ledger's lock for longer than one that starts is ready to wait.
    frozen = sum(life.end == "silent" for life in found.lives.values())
    for role in ("api", "scheduler"):
        if fallen[role] > frozen:
            yield f"G5: {fallen[role]} × {role} ended by itself"
    for life in found.lives.values():
        if life.ended_at is None:
            yield f"G7: {life.kind} {life.id} has ended, and not on record"


def _name(task: Any) -> str:
    return f"{task.actor} {task.id}"
