"""What the tasks of the storm do, what must become of them, and who asks for them how. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random

PER_MINUTE = 20_000
"""Tasks that are asked for."""
LARGEST_REQUEST = 20
LULL_S = 6
"""The storm goes on for so long when all has been asked for: it strikes what is left of the work."""


@dataclass(frozen=True)
class Fate:
    """A kind of task: the ``actors`` that run for one, how they must end, how many there are."""

    actors: tuple[str, ...]
    state: str = "succeeded"
    reason: str | None = None
    retries: int = 0
    crashes: tuple[int, ...] = (0,)
    per_minute: int = 0
    to_cancel: bool = False
    """Who has asked for it cancels it; so it needs an answer."""


FATES = {
    "quick": Fate(("storm_quick",)),  # as many as there is room for
    "slow": Fate(("storm_slow",), per_minute=250),
    "later": Fate(("storm_later",), per_minute=400),
    "flaky": Fate(("storm_flaky",), retries=2, per_minute=700),
    "hopeless": Fate(("storm_hopeless",), "failed", "retries-exhausted", retries=1, per_minute=700),
    "piped": Fate(("storm_first", "storm_second"), per_minute=400),
    "grouped": Fate(("storm_member", "storm_member", "storm_complete"), per_minute=200),
    "recalled": Fate(
        ("storm_recalled",), "cancelled", "by-request", per_minute=100, to_cancel=True
    ),
    "stopped": Fate(("storm_stopped",), "cancelled or succeeded", per_minute=40, to_cancel=True),
    "apart": Fate(("storm_apart",), per_minute=40),
    "fallen": Fate(("storm_fallen",), "failed", "retries-exhausted", retries=1, per_minute=4),
    "stumbling": Fate(("storm_stumbling",), crashes=(0, 1), per_minute=2),
    "deadly": Fate(("storm_deadly",), "failed", "crash-loop", crashes=(3,), per_minute=5),
}
"""``stumbling`` and ``deadly`` kill the process that runs them: once, and whenever they run."""


class Manner(StrEnum):
    """How somebody asks for tasks."""

    KEYED = "keyed"
    """With an Idempotency-Key, again and again until there is an answer."""
    ONCE = "once"
    REFUSED = "refused"
    """The endpoint adds the tasks and fails."""
    STREAMED = "streamed"
    """Once; the answer begins at once and ends a moment later."""


SHARES = {Manner.KEYED: 84, Manner.ONCE: 8, Manner.REFUSED: 4, Manner.STREAMED: 4}


@dataclass
class Request:
    """What is sent at ``at`` seconds, and what the client has heard of it since."""

    number: int
    at: float
    manner: Manner
    tasks: list[tuple[int, str]] = field(default_factory=list)
    """The number and the fate of each."""
    promised: bool = False
    """A response has begun that promises the tasks."""
    ids: dict[str, list[str]] = field(default_factory=dict)
    """By the number of a task, those of what was added for it; as far as the client could read them."""
    denied: str | None = None
    """What the response said that promises that they never run."""


def requests(seed: int, seconds: float) -> list[Request]:
    """Return all the requests of a storm, each with up to LARGEST_REQUEST tasks."""
    random = Random(seed)
    fates = _fates(random, seconds / 60)
    return list(_requests(random, fates, seconds))


def _fates(random: Random, minutes: float) -> list[str]:
    fates = [name for name, fate in FATES.items() for _ in range(round(fate.per_minute * minutes))]
    rows = sum(len(FATES[name].actors) for name in fates)
    fates += ["quick"] * (round(PER_MINUTE * minutes) - rows)
    random.shuffle(fates)
    return fates


def _requests(random: Random, fates: list[str], seconds: float) -> Iterator[Request]:
    number = done = 0
    while done < len(fates):
        taken = fates[done : done + random.randint(1, LARGEST_REQUEST)]
        [manner] = random.choices(list(SHARES), list(SHARES.values()))
        if any(FATES[fate].to_cancel for fate in taken):
            manner = Manner.KEYED
        at = (seconds - LULL_S) * done / len(fates)
        tasks = list(enumerate(taken, start=done))
        yield Request(number, at, manner, tasks)
        number, done = number + 1, done + len(taken)
