"""Where an actor is at home: the module whose import declares it, which a child imports to have it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from types import FrameType

    from dramatiq import Actor

_homes: WeakKeyDictionary[Actor[..., Any], str] = WeakKeyDictionary()


def note_home(actor: Actor[..., Any]) -> None:
    """Note the module that is being run just now; to be called while ``actor`` is declared.

    That is more than where its function was written: somebody else's function may be made an actor,
    and a function may make actors.
    """
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 # public but for its name
    while frame is not None and frame.f_code.co_name != "<module>":
        frame = frame.f_back
    name = frame.f_globals.get("__name__") if frame else None
    if name and name != "__main__":
        _homes[actor] = name


def home_of(actor: Actor[..., Any]) -> str:
    """Return the name of that module; one that was declared later on is looked for with its function."""
    return _homes.get(actor) or actor.fn.__module__
