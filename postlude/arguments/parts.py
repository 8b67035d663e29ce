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


def find(value: Any, wrong: Callable[[Any], bool]) -> Path | None:
    """Return the way to the first value or key inside ``value`` that is ``wrong``; None if none is.

    What lies deeper than DEPTH_LIMIT is not looked at, and nothing twice: values that contain
    themselves are safe.
    """
    return _find(value, wrong, DEPTH_LIMIT, set())


def difference(given: Any, back: Any, depth: int = DEPTH_LIMIT) -> tuple[Path, Any, Any] | None:
    """Return where ``back`` is not what was ``given``, with both values there; None if it is.

    A sequence may come back as a list, and an instant in another time zone with the same offset.
    Everything else keeps its type: ``Decimal("1.5")`` is not ``1.5`` here. Of models and
    dataclasses only the fields count.
    """
    inside = _steps(given) if depth else {}
    if not inside and not _is_list(given):
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
    elif _is_list(value) or isinstance(value, AbstractSet):
        yield from enumerate(value)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from ((f.name, getattr(value, f.name, None)) for f in dataclasses.fields(value))
    elif isinstance(value, BaseModel):
        # Not __iter__, which a model may define otherwise, nor all of __dict__, where caches live.
        state = vars(value)
        yield from ((name, state.get(name)) for name in type(value).model_fields)
        yield from (value.__pydantic_extra__ or {}).items()


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


def _find(value: Any, wrong: Callable[[Any], bool], depth: int, seen: set[int]) -> Path | None:
    if wrong(value):
        return ()
    if not depth or id(value) in seen:
        return None
    for step, part in parts(value):
        seen.add(id(value))
        if wrong(step):
            return (_token(step),)
        inner = _find(part, wrong, depth - 1, seen)
        if inner is not None:
            return (_token(step), *inner)
    return None


def _steps(value: Any) -> dict[Any, Any]:
    """Return the parts of ``value`` under keys that are the same for an equal value."""
    if isinstance(value, AbstractSet):
        return {member: member for member in value}
    return dict(parts(value))


def _is_list(value: Any) -> bool:
    text = str | bytes | bytearray | memoryview
    return isinstance(value, Sequence) and not isinstance(value, text)


def _alike(given: Any, back: Any) -> bool:
    if type(given) is type(back):
        return True
    if isinstance(given, Mapping):
        return isinstance(back, dict)
    return _is_list(given) and isinstance(back, list)


def _same(given: Any, back: Any) -> bool:
    if isinstance(given, datetime) and isinstance(back, datetime):
        return _same_instant(given, back)
    if isinstance(given, Enum | bool) or isinstance(back, bool):
        return given is back
    if type(given) is int and isinstance(back, float | Decimal):
        return given == back  # the unvalidated default in "price: Decimal = 0"
    # A subclass may come back as what it extends: test clocks replace datetime by their own class.
    return isinstance(given, type(back)) and (_equal(given, back) or _same_state(given, back))


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


def _same_state(given: Any, back: Any) -> bool:
    """Compare objects of a class that does not say when two of them are equal."""
    if type(given) is not type(back) or not _compares_by_identity(type(given)):
        return False
    return hasattr(given, "__dict__") and _equal(vars(given), vars(back))


def _compares_by_identity(kind: Any) -> bool:
    return kind.__eq__ is object.__eq__


def _token(step: Any) -> str | int:
    return step if isinstance(step, str | int) else str(step)
