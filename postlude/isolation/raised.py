"""Exceptions on their way from one process to another: as text, and as the class that they were.

What is raised on the other side is an instance of the same class, so that ``throws``, ``retry_when``
and ``except`` work, made without running its ``__init__``. It has the arguments and attributes that
JSON can carry, says what the original said, and its cause is the original's traceback.
"""

from __future__ import annotations

import json
import sys
import traceback
from typing import Any

from postlude.ledger.failure import FRAMES, TEXT_LIMIT, words_of


class Elsewhere(Exception):
    """The cause of an exception that happened in another process or thread; its text is the traceback."""


def describe(error: BaseException) -> dict[str, Any]:
    """Return ``error`` as a JSON object. Never raises, whatever the exception's own code does."""
    kinds = [kind for kind in type(error).__mro__ if issubclass(kind, BaseException)]
    lines = traceback.format_exception(type(error), error, error.__traceback__, limit=FRAMES)
    return {
        "kinds": [[kind.__module__, kind.__qualname__] for kind in kinds],
        "words": words_of(error)[:TEXT_LIMIT],
        "args": list(error.args) if all(map(_travels, error.args)) else [],
        "attributes": {k: v for k, v in vars(error).items() if _travels(v)},
        "traceback": "".join(lines)[-TEXT_LIMIT:],
    }


def rebuild(frame: dict[str, Any]) -> BaseException:
    """Return the exception that ``frame`` describes.

    Nothing is imported for it: a class that this process has not loaded, no ``except`` here can mean.
    The nearest base class that is loaded stands in for it, under its name.
    """
    for number, (module, name) in enumerate(frame["kinds"]):
        try:
            kind = _class(module, name)
            error = _instance(kind if number == 0 else _named(kind, frame), frame)
        except Exception:  # noqa: BLE001, S112 - somebody's own class: whatever it does, the failure must arrive
            continue
        error.__cause__ = Elsewhere(frame["traceback"])
        return error
    raise AssertionError  # BaseException, which is the last of all kinds, takes anything


def _instance(kind: type[BaseException], frame: dict[str, Any]) -> BaseException:
    error = kind.__new__(kind, *frame["args"])
    error.__dict__.update(frame["attributes"])
    if words_of(error) == frame["words"]:
        return error
    named = _named(kind, frame)
    error = named.__new__(named, *frame["args"])
    error.__dict__.update(frame["attributes"])
    return error


def _class(module: str, name: str) -> type[BaseException]:
    found: Any = sys.modules[module]
    for part in name.split("."):
        found = getattr(found, part)
    if not issubclass(found, BaseException):
        raise TypeError(name)
    return found  # type: ignore[no-any-return] # issubclass has just said so


def _named(base: type[BaseException], frame: dict[str, Any]) -> type[BaseException]:
    """Return a subclass of ``base`` with the name, and the words, of the original."""
    module, name = frame["kinds"][0]
    body = {"__str__": lambda _: frame["words"], "__module__": module, "__qualname__": name}
    return type(name.rpartition(".")[2], (base,), body)


def _travels(value: Any) -> bool:
    try:
        return len(json.dumps(value, allow_nan=False)) <= TEXT_LIMIT
    except (TypeError, ValueError, RecursionError):
        return False
