"""Who is struck when, and how: a deck of blows, dealt anew for each minute. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from random import Random

LEASE_S = 2.0
EACH = 2
"""Processes of a role."""


class Blow(StrEnum):
    """What happens to a process."""

    KILL = "kill"
    KILL_INNER = "kill inner"
    """The worker process alone, and not the ``dramatiq`` master above it."""
    BLINK = "blink"
    """SIGSTOP for a moment."""
    FREEZE = "freeze"
    """SIGSTOP for longer than the lease: whoever wakes from that has been buried."""
    TERM = "term"
    """What a deploy does."""


DECK = {
    ("worker", Blow.KILL): 5,
    ("worker", Blow.KILL_INNER): 3,
    ("worker", Blow.BLINK): 3,
    ("worker", Blow.FREEZE): 5,
    ("worker", Blow.TERM): 2,
    ("api", Blow.KILL): 5,
    ("api", Blow.BLINK): 3,
    ("api", Blow.FREEZE): 2,
    ("api", Blow.TERM): 1,
    ("scheduler", Blow.KILL): 3,
    ("scheduler", Blow.BLINK): 2,
    ("scheduler", Blow.FREEZE): 2,
    ("scheduler", Blow.TERM): 1,
}
"""Blows per minute."""
LASTS_S = {Blow.BLINK: (0.05, 1.0), Blow.FREEZE: (2.0 * LEASE_S, 3.0 * LEASE_S)}


@dataclass(frozen=True)
class Strike:
    """``blow`` hits the process ``post`` ("worker-0") at ``at`` seconds, and lasts ``lasts`` seconds."""

    at: float
    post: str
    blow: Blow
    lasts: float = 0.0


def forecast(seed: int, seconds: float) -> list[Strike]:
    """Return the strikes of a storm in their order, at moments that know no rhythm."""
    random = Random(~seed)
    strikes: list[Strike] = []
    for minute in range(round(seconds / 60)):
        for (role, blow), count in DECK.items():
            for _ in range(count):
                at = 60 * (minute + random.random())
                lasts = random.uniform(*LASTS_S.get(blow, (0.0, 0.0)))
                strikes.append(Strike(at, f"{role}-{random.randrange(EACH)}", blow, lasts))
    return sorted(strikes, key=lambda strike: strike.at)
