"""Background tasks that survive: what other code imports from Postlude.

Importing this package makes Postlude's broker Dramatiq's default, without a thread, a connection or
a file: those appear when the first task is sent or consumed. The names below are looked up when they
are first used, so a worker never loads FastAPI and a script never loads SQLAlchemy for nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from postlude.broker.lazy import install_default_broker

if TYPE_CHECKING:
    from postlude.dispatch import BackgroundTasks, IdempotentRoute, TaskHandle, install
    from postlude.engines import async_engine, engine
    from postlude.middleware.cancelled import Cancelled
    from postlude.progress import set_progress
    from postlude.schedules.declare import cron, every

__version__ = "0.1.0"
__all__ = [
    "BackgroundTasks",
    "Cancelled",
    "IdempotentRoute",
    "TaskHandle",
    "async_engine",
    "cron",
    "engine",
    "every",
    "install",
    "set_progress",
]

_HOMES = {
    "BackgroundTasks": "postlude.dispatch",
    "IdempotentRoute": "postlude.dispatch",
    "Cancelled": "postlude.middleware.cancelled",
    "TaskHandle": "postlude.dispatch",
    "install": "postlude.dispatch",
    "engine": "postlude.engines",
    "async_engine": "postlude.engines",
    "set_progress": "postlude.progress",
    "cron": "postlude.schedules.declare",
    "every": "postlude.schedules.declare",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its home on first use."""
    if name not in _HOMES:
        message = f"module 'postlude' has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(import_module(_HOMES[name]), name)


install_default_broker()
