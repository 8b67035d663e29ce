"""The drop-in for FastAPI's ``BackgroundTasks``: accepted before the response, released after it.

``background`` is what endpoints see, ``exchange`` what one request owes, ``middleware`` where the
two moments are, ``promises`` what this process owes and how it is made good, ``idempotency`` how a
request that is repeated gets the same answer. ``hosting`` lets a session carry the tasks, ``binding``
follows it, ``notes`` knows what stands or falls with what. FastAPI is loaded on first use of a name
below.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from postlude.dispatch.background import BackgroundTasks
    from postlude.dispatch.handle import TaskHandle
    from postlude.dispatch.idempotency import IdempotentRoute
    from postlude.dispatch.installation import install

__all__ = ["BackgroundTasks", "IdempotentRoute", "TaskHandle", "install"]

_HOMES = {
    "BackgroundTasks": "postlude.dispatch.background",
    "IdempotentRoute": "postlude.dispatch.idempotency",
    "TaskHandle": "postlude.dispatch.handle",
    "install": "postlude.dispatch.installation",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its home on first use."""
    if name not in _HOMES:
        message = f"module 'postlude.dispatch' has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(import_module(_HOMES[name]), name)
