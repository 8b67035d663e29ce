"""What actors return, as JSON text, for people and for ``get_result()``.

Datetimes, UUIDs, Decimals, enums, dataclasses, models, sets and bytes (base64) take the form that
they have in arguments; having no annotation to return to, they are read back in that form.
"""

from __future__ import annotations

import inspect
from typing import Any

import pydantic_core

from postlude.arguments import faults, parts, text
from postlude.arguments.json_values import NOT_FINITE
from postlude.errors import BadResult


def encode_result(value: Any, limit: int | None = None) -> str:
    """Return ``value`` as JSON text of at most ``limit`` bytes; raises BadResult saying why not."""
    if value is None:
        return "null"
    if inspect.isgenerator(value):
        words = "it is a generator: the actor contains a yield, so its body did not run"
        raise _refusal(words)
    try:
        data = pydantic_core.to_json(value, bytes_mode="base64")
    except (ValueError, RecursionError) as error:
        raise _unwritable(value, error) from None
    flaw = text.flaw_of(data, limit)
    if flaw is not None:
        raise _refusal(flaw.words, parts.find(value, flaw.guilty) if flaw.guilty else None)
    if _may_hold_nan(data):
        place = parts.find(value, parts.non_finite)
        if place is not None:
            raise _refusal(NOT_FINITE, place)
    return data.decode()


def decode_result(result: str) -> Any:
    """Return the JSON value of a stored result; raises BadResult if the text is no JSON."""
    try:
        return pydantic_core.from_json(result, allow_inf_nan=False)
    except ValueError as error:
        raise _refusal(str(error)) from None


def jsonable(value: Any) -> Any:
    """Return what ``value`` is after the way through JSON; raises BadResult, with no limit of size.

    An argument without a type takes it, as the results that are handed to other actors need.
    """
    return decode_result(encode_result(value))


def _may_hold_nan(data: bytes) -> bool:
    # Models write NaN as null, Decimals as a string.
    return b"null" in data or b"NaN" in data or b"Infinity" in data


def _unwritable(value: Any, error: Exception) -> BadResult:
    place = parts.find(value, parts.lone_surrogate)
    if place is not None:
        return _refusal("it contains half a character (a lone surrogate)", place)
    return _refusal(str(error).removeprefix("Error serializing to JSON: "))


def _refusal(words: str, place: parts.Path | None = None) -> BadResult:
    inside = f" at {faults.pointer(place)}" if place else ""
    return BadResult(f"the result cannot be stored as JSON{inside}: {faults.clean(words, 300)}")
