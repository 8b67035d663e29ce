"""Whether a child process is hanging: stopped by a signal, alive but silent, or waiting for a dead one.

Vitals count only time that was observed. Silence counts only while somebody else's heart beats:
when nobody can write to the ledger, the ledger is what is ill, and killing everybody cures nothing.
The kernel tells who is stopped: so the one that was stopped while it held the ledger's write lock
dies, and the others, silent because of it, live.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta

_NOTHING = timedelta()
_BLINK = timedelta(seconds=2)
"""The most that one observation adds: an observer that slept itself has seen nothing meanwhile."""
_IN_VAIN = timedelta(seconds=1.5)
"""How long a master may take to see that its process is dead: as a rule it looks at once."""


@dataclass(frozen=True, slots=True)
class Vitals:
    """What is known of one child: how long it has been stopped, silent and bereft, on our own clock."""

    stopped: timedelta = _NOTHING
    silent: timedelta = _NOTHING
    bereft: timedelta = _NOTHING
    registered: bool = False
    """It has reported to the ledger at least once."""


@dataclass(frozen=True, slots=True)
class Sign:
    """One observation: whether it is stopped, whether its heart beat, whether anybody's did."""

    stopped: bool
    beat: bool
    somebody_beat: bool
    left: bool = False
    """Its incarnation has left in order: a successor in its place has as long as at the start."""
    bereft: bool = False
    """It is there for the sake of another process, which is dead, and it has not noticed."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a child may be stopped or silent (``lease``), and take to report (``boot``)."""

    lease: timedelta
    boot: timedelta


def observe(vitals: Vitals, sign: Sign, elapsed: timedelta) -> Vitals:
    """Return the vitals after one more observation, ``elapsed`` after the one before."""
    span = min(elapsed, _BLINK)
    if sign.left:
        vitals = replace(vitals, silent=_NOTHING, registered=False)
    silent = vitals.silent
    if sign.beat:
        silent = _NOTHING
    elif sign.somebody_beat:
        silent += span
    return replace(
        vitals,
        stopped=vitals.stopped + span if sign.stopped else _NOTHING,
        silent=silent,
        bereft=vitals.bereft + span if sign.bereft else _NOTHING,
        registered=vitals.registered or sign.beat,
    )


def verdict(vitals: Vitals, limits: Limits) -> str | None:
    """Say why the child must be killed, in words for the log; None while it need not be."""
    if vitals.stopped > limits.lease:
        return f"it was stopped for {seconds(vitals.stopped)}"
    # A Dramatiq master waits for half a minute for the process that it has started to come up.
    if not vitals.registered and vitals.bereft > _IN_VAIN:
        return f"the process that it waits for died {seconds(vitals.bereft)} ago, while it started"
    if vitals.registered and vitals.silent > limits.lease:
        return f"it was silent for {seconds(vitals.silent)}"
    if not vitals.registered and vitals.silent > limits.boot:
        return f"it had not reported to the ledger {seconds(vitals.silent)} after its start"
    return None


def seconds(span: timedelta) -> str:
    """Write a span for a person: "5.2 s"."""
    return f"{span.total_seconds():.1f} s"
