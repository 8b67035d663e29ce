"""Whether a task's options make sense, asked where the task is added.

Dramatiq takes any option for any middleware; those that ours read are checked, the others are the
business of whoever reads them.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from postlude.errors import BadOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

COMPOSITION = ("pipe_target", "group_completion_uuid", "group_completion_callbacks")
"""Options by which Dramatiq ties messages together; in the ledger they are columns of their own."""
LONGEST_DELAY_MS = 3650 * 86_400_000
"""Ten years; more is a slip of units, and dates end some time."""
LONGEST_KEY = 200
_INT32 = 2**31
_MOST = 1e15
"""Milliseconds, 31,000 years: who writes that means no limit, and floats and dates can still count it."""


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_span(value: Any) -> bool:
    """Say whether ``value`` counts milliseconds; a whole number may be too large to be reckoned with."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return 0 <= value <= _MOST


def _is_key(value: Any) -> bool:
    """Say whether ``value`` is a text that is short and that every database stores."""
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST_KEY or "\0" in value:
        return False
    return not any("\ud800" <= character <= "\udfff" for character in value)


def _is_hold(value: Any) -> bool:
    if isinstance(value, str):
        return value in {"unfinished", "queued"}
    return _is_whole(value) and 0 < value <= LONGEST_DELAY_MS


CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "max_retries": (
        lambda value: value is None or (_is_whole(value) and value >= 0),
        "a whole number from 0, or None for no limit",
    ),
    "min_backoff": (_is_span, "milliseconds from 0 to 1e15"),
    "max_backoff": (_is_span, "milliseconds from 0 to 1e15"),
    "time_limit": (lambda value: _is_span(value) and value > 0, "milliseconds above 0, up to 1e15"),
    "max_age": (
        lambda value: value is None or (_is_span(value) and value > 0),
        "milliseconds above 0, up to 1e15, or None for no limit",
    ),
    "notify_shutdown": (lambda value: isinstance(value, bool), "True or False"),
    "store_results": (lambda value: isinstance(value, bool), "True or False"),
    "throws": (lambda _value: False, "set where the actor is declared"),
    "retry_when": (lambda _value: False, "set where the actor is declared"),
    "pipe_ignore": (lambda value: isinstance(value, bool), "True or False"),
    "delay": (
        lambda value: value is None or (_is_span(value) and value <= LONGEST_DELAY_MS),
        "milliseconds from 0 to ten years",
    ),
    "isolation": (lambda _value: False, "set where the actor is declared"),
    "memory_limit": (lambda _value: False, "set where the actor is declared"),
    "priority": (
        lambda value: _is_whole(value) and -_INT32 <= value < _INT32,
        "a whole number of 32 bits",
    ),
    "unique_key": (
        lambda value: value is None or _is_key(value),
        f"a text of 1 to {LONGEST_KEY} characters, without NUL, or None",
    ),
    "unique_for": (
        lambda value: value is None or _is_hold(value),
        "'unfinished', 'queued' or a span: milliseconds above 0, a timedelta, or '10m'",
    ),
}
CALLBACKS = ("on_success", "on_failure", "on_retry_exhausted")


def check(actor: str, options: Mapping[str, Any], known_actors: Collection[str]) -> None:
    """Raise BadOptions for the first option of a task of ``actor`` that makes no sense."""
    for name, value in options.items():
        if name in COMPOSITION:
            message = f"{actor}: {name} is set by pipelines and groups; run or add those as a whole"
            raise BadOptions(message)
        if name in CALLBACKS and value is not None and value not in known_actors:
            message = f"{actor}: {name} must name an actor, and there is no {value!r}"
            raise BadOptions(message)
        fits, form = CHECKS.get(name, (None, ""))
        if fits and not fits(value):
            message = f"{actor}: {name} must be {form}, not {value!r}"
            raise BadOptions(message)


def encode(actor: str, options: Mapping[str, Any]) -> str:
    """Return options as JSON text; raises BadOptions for what has none."""
    if not options:
        return "{}"  # the usual case
    try:
        return json.dumps(options, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        message = f"{actor}: the options {sorted(options)} cannot be stored as JSON: {error}"
        raise BadOptions(message) from None
