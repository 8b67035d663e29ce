"""The options ``unique_key`` and ``unique_for``: which key a task has to itself, and until when.

Both may be given with a message or declared with the actor; the message's count.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from postlude.durations import parse_duration
from postlude.errors import BadOptions
from postlude.ledger.key import Hold, UniqueKey

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

_MILLISECOND = timedelta(milliseconds=1)


def complete(actor: str, given: dict[str, Any], declared: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a message of ``actor`` with both spelled out, a span in milliseconds.

    What makes no sense is left as it is, for :func:`postlude.broker.options.check` to refuse. Raises
    BadOptions for a span without a key.
    """
    key = given.get("unique_key", declared.get("unique_key"))
    if key is not None:
        said = (options.get("unique_for") for options in (given, declared))
        held = next((held for held in said if held is not None), Hold.UNFINISHED.value)
        return given | {"unique_key": key, "unique_for": _in_milliseconds(held)}
    if given.get("unique_for") is not None:
        message = f"{actor}: unique_for needs a unique_key, which says what is to be unique"
        raise BadOptions(message)
    return given


def refuse_tied(actor: str, options: Mapping[str, Any]) -> None:
    """Raise BadOptions for a unique step or member: as a duplicate it would take the others along."""
    if options.get("unique_key") is not None:
        message = (
            f"{actor}: a task of a pipeline or a group cannot have a unique_key; leave it out, or have"
            " a task of its own run the whole"
        )
        raise BadOptions(message)


def wanted(actor: str, options: Mapping[str, Any], now: datetime) -> UniqueKey | None:
    """Return the key that a task with these options, complete and checked, wants when added ``now``."""
    key = options.get("unique_key")
    if key is None:
        return None
    scope, held = f"actor:{actor}", options["unique_for"]
    if isinstance(held, int):
        return UniqueKey(scope, key, Hold.PERIOD, now + held * _MILLISECOND)
    return UniqueKey(scope, key, Hold(held))


def _in_milliseconds(held: Any) -> Any:
    """Return a timedelta, or a text such as "10m", as whole milliseconds; anything else as it is."""
    if isinstance(held, str) and held[:1].isdigit() and held[-1:].isalpha():
        try:
            held = parse_duration(held)
        except ValueError:
            return held
    return held // _MILLISECOND if isinstance(held, timedelta) else held
