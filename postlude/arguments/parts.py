"""Looking inside values: where something is, and whether a value came back the same.

Both are for the rare paths only: naming a culprit, and types whose JSON may be ambiguous.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Any, TypeAlias

from pydantic import BaseModel

from postlude.arguments.limits import DEPTH_LIMIT

Path: TypeAlias = tuple[str | int, ...]

_ONE_PIECE = (str, bytes, bytearray, memoryview)


def find(value: Any, wrong: Callable[[Any], bool], depth: int = DEPTH_LIMIT) -> Path | None:
    """Return the way to the first value or key inside ``value`` that is ``wrong``; None if none is.

    What lies deeper than ``depth`` is not looked at, so values that contain themselves are safe.
    """
    if wrong(value):
        return ()
    if not depth:
        return None
    for step, part in parts(value):
        if wrong(step):
            return (_token(step),)
        inner = find(part, wrong, depth - 1)
        if inner is not None:
            return (_token(step), *inner)
    return None


def difference(given: Any, back: Any, depth: int = DEPTH_LIMIT) -> tuple[Path, Any, Any] | None:
    """Return where ``back`` is not what was ``given``, with both values there; None if it is.

    A sequence may come back as a list, and an instant in another time zone with the same offset.
    Everything else keeps its type: ``Decimal("1.5")`` is not ``1.5`` here. Attributes that are
    neither fields nor state (private attributes of models) do not count.
    """
    inside = _steps(given) if depth else {}
    if not inside and not isinstance(given, Sequence):
        return None if _same(given, back) else ((), given, back)
    others = _steps(back)
    if not _alike(given, back) or len(inside) != len(others):
        return (), given, back
    for step, part in inside.items():
        if step not in others:
            return (), given, back
        found = difference(part, others[step], depth - 1)
        if found is not None:
            path, *values = found
            return (_token(step), *path), values[0], values[1]
    return None


def parts(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield what ``value`` holds, by key, index or field name; nothing for what is one piece."""
    if isinstance(value, Mapping):
        yield from value.items()
    elif isinstance(value, Sequence | AbstractSet) and not isinstance(value, _ONE_PIECE):
        yield from enumerate(value)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from ((f.name, getattr(value, f.name, None)) for f in dataclasses.fields(value))
    elif isinstance(value, BaseModel):
        # Not __iter__, which a model may define otherwise, nor all of __dict__, where caches live.
        state = vars(value)
        yield from ((name, state.get(name)) for name in type(value).model_fields)
        yield from (value.__pydantic_extra__ or {}).items()
    elif _compares_by_identity(value) and hasattr(value, "__dict__"):
        yield from vars(value).items()  # its state is all that can be compared


def non_finite(value: Any) -> bool:
    """Say whether ``value`` is NaN or infinite, for which JSON has no number."""
    if isinstance(value, float):
        return not math.isfinite(value)
    return isinstance(value, Decimal) and not value.is_finite()


def lone_surrogate(value: Any) -> bool:
    """Say whether ``value`` is a string that no UTF-8 can express."""
    if not isinstance(value, str) or value.isascii():
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return True  # the answer that was asked for
    return False


def _compares_by_identity(value: Any) -> bool:
    kind: Any = type(value)
    return kind.__eq__ is object.__eq__


def _steps(value: Any) -> dict[Any, Any]:
    """Return the parts of ``value`` under keys that are the same for an equal value."""
    if isinstance(value, AbstractSet):
        return {member: member for member in value}
    return dict(parts(value))


def _alike(given: Any, back: Any) -> bool:
    if type(given) is type(back):
        return True
    if isinstance(given, Mapping):
        return isinstance(back, dict)
    return isinstance(given, Sequence) and isinstance(back, list)


def _same(given: Any, back: Any) -> bool:
    if isinstance(given, datetime) and isinstance(back, datetime):
        return _same_instant(given, back)
    if isinstance(given, Enum | bool) or isinstance(back, bool):
        return given is back
    if type(given) is int and isinstance(back, float | Decimal):
        return given == back  # the unvalidated default in "price: Decimal = 0"
    # A subclass may come back as what it extends: test clocks replace datetime by their own class.
    return isinstance(given, type(back)) and _equal(given, back)


def _same_instant(given: datetime, back: datetime) -> bool:
    if given.utcoffset() is None or back.utcoffset() is None:
        return given == back
    # Not ==, which calls no time in the repeated hour of another zone equal to anything.
    return not (given - back)


def _equal(given: Any, back: Any) -> bool:
    try:
        return bool(given == back)
    except (TypeError, ValueError):
        return False  # an array, say: what cannot be compared cannot be promised


def _token(step: Any) -> str | int:
    return step if isinstance(step, str | int) else str(step)
