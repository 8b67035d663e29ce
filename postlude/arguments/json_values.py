"""Values that are JSON already: all that a parameter without a type may take.

A datetime in such a parameter would arrive as text, an Enum member as its value: the actor would
get something else than was sent. So only what comes back as itself is taken; a tuple, which comes
back as a list, is the one exception.
"""

from __future__ import annotations

import math
from typing import Any

from pydantic_core import PydanticCustomError, core_schema

from postlude.arguments.limits import DEPTH_LIMIT, DIGITS_LIMIT, TOO_LONG
from postlude.arguments.parts import Path

NOT_JSON = "not_json"
"""Type of the validation error; its context has ``words`` and the ``path`` inside the value."""

NOT_FINITE = "NaN and Infinity are not JSON numbers"

_PLAIN = frozenset({str, bool, type(None)})


def flaw_of(value: Any, depth: int = 1) -> tuple[Path, str] | None:
    """Return where and why ``value`` is no JSON value that comes back as itself; None if it is one.

    Exact types only: a subclass of ``str`` or ``dict`` would come back as its base. Strings are not
    looked into; :mod:`postlude.arguments.text` does that on the encoded bytes.
    """
    kind = type(value)
    if kind in _PLAIN:
        return None
    if kind is list or kind is tuple:
        return _deeper(enumerate(value), depth)
    if kind is dict:
        stranger = next((key for key in value if type(key) is not str), None)
        if stranger is not None or None in value:
            return (), f"a key of type {type(stranger).__name__} would come back as text"
        return _deeper(value.items(), depth)
    words = _flaw_of_number(value) if kind is int or kind is float else _flaw_of_stranger(kind)
    return ((), words) if words else None


def json_schema() -> core_schema.CoreSchema:
    """Return the core schema of any JSON value; Python input is held to :func:`flaw_of`."""
    return core_schema.json_or_python_schema(
        json_schema=core_schema.any_schema(),
        python_schema=core_schema.no_info_after_validator_function(
            _only_json, core_schema.any_schema()
        ),
    )


def _deeper(items: Any, depth: int) -> tuple[Path, str] | None:
    if depth > DEPTH_LIMIT:
        return (), f"it is nested more than {DEPTH_LIMIT} levels deep, or contains itself"
    for step, item in items:
        if type(item) in _PLAIN:
            continue
        found = flaw_of(item, depth + 1)
        if found is not None:
            path, words = found
            return (step, *path), words
    return None


def _flaw_of_number(value: float) -> str | None:
    if isinstance(value, float):
        return None if math.isfinite(value) else NOT_FINITE
    if -TOO_LONG < value < TOO_LONG:
        return None
    return f"a whole number of more than {DIGITS_LIMIT} digits cannot be read back"


def _flaw_of_stranger(kind: type) -> str:
    return (
        f"a value of type {kind.__qualname__:.80} would come back from JSON as something else; "
        "annotate the parameter with its type"
    )


def _only_json(value: Any) -> Any:
    found = flaw_of(value)
    if found is not None:
        path, words = found
        raise PydanticCustomError(NOT_JSON, "{words}", {"words": words, "path": path})
    return value
