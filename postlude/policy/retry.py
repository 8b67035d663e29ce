"""What follows a failed attempt? Dramatiq's options and its meaning of them, as a pure decision."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_RETRIES = 20
MIN_BACKOFF_MS = 15_000
MAX_BACKOFF_MS = 7 * 86_400_000
"""Dramatiq's defaults: 20 retries, 15 seconds to 7 days apart."""


@dataclass(frozen=True, slots=True)
class Again:
    """Try again after this many milliseconds."""

    delay_ms: int


@dataclass(frozen=True, slots=True)
class Dead:
    """Give up. ``exhausted``: retries ran out; otherwise ``throws`` named the error."""

    exhausted: bool


@dataclass(frozen=True, slots=True)
class RetryRules:
    """The options of one task, its own before its actor's; milliseconds."""

    max_retries: int | None = MAX_RETRIES
    min_backoff: int = MIN_BACKOFF_MS
    max_backoff: int = MAX_BACKOFF_MS
    throws: tuple[type[BaseException], ...] = ()
    retry_when: Callable[[int, BaseException], bool] | None = None

    @classmethod
    def of(cls, actor: dict[str, Any], task: dict[str, Any]) -> RetryRules:
        """Read the rules from an actor's and a task's options."""
        throws = actor.get("throws") or ()
        options = {**actor, **task}
        return cls(
            max_retries=options.get("max_retries", MAX_RETRIES),
            min_backoff=options.get("min_backoff", MIN_BACKOFF_MS),
            max_backoff=min(options.get("max_backoff", MAX_BACKOFF_MS), MAX_BACKOFF_MS),
            throws=throws if isinstance(throws, tuple) else (throws,),
            retry_when=actor.get("retry_when"),
        )


def after_failure(
    rules: RetryRules,
    error: BaseException,
    *,
    retries: int,
    wanted_ms: int | None = None,
    jitter: float | None = None,
) -> Again | Dead:
    """Decide over a task that has been retried ``retries`` times and failed again.

    ``wanted_ms`` is the delay that the actor asked for by raising ``Retry(delay=…)``. ``jitter`` in
    [0, 1) makes the result repeatable; by default it is drawn.
    """
    if rules.throws and isinstance(error, rules.throws):
        return Dead(exhausted=False)
    if rules.retry_when is not None:
        if not rules.retry_when(retries, error):
            return Dead(exhausted=True)
    elif rules.max_retries is not None and retries >= rules.max_retries:
        return Dead(exhausted=True)
    if wanted_ms is not None:
        return Again(max(0, wanted_ms))
    drawn = random.random() if jitter is None else jitter  # noqa: S311 - spreads load, no secret
    return Again(backoff_ms(rules, retries, drawn))


def backoff_ms(rules: RetryRules, retries: int, jitter: float) -> int:
    """Return Dramatiq 2's back-off: ``min_backoff`` doubled per retry, times 1 to 2.

    Capped at ``max_backoff``, from which up to a half is taken off so that tasks do not return in
    step (dramatiq/common.py, compute_backoff).
    """
    doublings = min(retries, 32)
    delay = int(rules.min_backoff * 2**doublings * (1 + jitter))
    if delay > rules.max_backoff:
        return int(rules.max_backoff * (0.5 + jitter / 2))
    return delay
