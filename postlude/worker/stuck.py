"""A thread that does not come back: its task fails at its time limit, and its worker leaves.

A thread in C code, or one that catches whatever interrupts it, can be ended by nothing but the end of
its process. What else the process does is finished or handed back first.
"""

from __future__ import annotations

import sys
import threading
import traceback
from typing import TYPE_CHECKING

import structlog
from dramatiq.asyncio import get_event_loop_thread
from dramatiq.middleware import TimeLimitExceeded

from postlude.broker.desk import desk
from postlude.isolation.raised import Elsewhere
from postlude.settings import settings
from postlude.worker import service

if TYPE_CHECKING:
    from dramatiq import Broker

    from postlude.broker.delivery import Delivery

log = structlog.get_logger()

_asking = threading.Lock()


def give_up(broker: Broker, task: Delivery, thread: int) -> None:
    """Settle ``task``, whose ``thread`` has been abandoned, in its place; then let this worker leave.

    Returns at once. The hooks run in a thread of their own, as after any attempt that failed.
    """
    threading.Thread(
        target=_give_up, args=(broker, task, thread), name="give-up", daemon=True
    ).start()


def look_at_event_loop(broker: Broker) -> None:
    """See whether the event loop still turns, after a coroutine did not end at its limit.

    If it does not for the grace, some coroutine blocks it, and with it every other; this worker
    leaves. Returns at once.
    """
    del broker
    if _asking.acquire(blocking=False):
        threading.Thread(target=_ask_loop, name="ask-loop", daemon=True).start()


def _give_up(broker: Broker, task: Delivery, thread: int) -> None:
    structlog.contextvars.bind_contextvars(
        task_id=task.message_id, actor=task.actor_name, attempt=task.task.attempt
    )
    grace_s = settings().time_limit_grace.total_seconds()
    message = f"it did not stop within {grace_s:g} s after its limit; its worker leaves"
    error = TimeLimitExceeded(message)
    error.__cause__ = Elsewhere(_stack(thread))
    log.error("task.stuck", grace_s=grace_s)
    broker.emit_after("process_message", task, exception=error)
    desk().settle(task)
    service.leave()


def _ask_loop() -> None:
    try:
        loop = get_event_loop_thread()
        answered = threading.Event()
        if loop is None:
            return
        loop.loop.call_soon_threadsafe(answered.set)
        if not answered.wait(settings().time_limit_grace.total_seconds()):
            log.error("event_loop.stuck", stack=_stack(loop.ident or 0))
            service.leave()
    finally:
        _asking.release()


def _stack(thread: int) -> str:
    """Return where ``thread`` is, as a traceback."""
    frame = sys._current_frames().get(thread)  # noqa: SLF001 # public but for its name
    lines = traceback.format_stack(frame) if frame else ["  (the thread has ended)\n"]
    return "Stuck in (most recent call last):\n" + "".join(lines)
