"""A request to stop counts once, and at once.

A service manager sends SIGTERM to all processes of a service, and Dramatiq's master forwards its own to
its children: they get it twice, and Dramatiq takes the second one as "do not wait for anything". The
first one it notices up to a second later.
"""

from __future__ import annotations

import inspect
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

_taken = False
_heard: set[int] = set()
ECHO_S = 2.0
"""A repetition within this time is the same request; later ones mean what they say."""


def in_dramatiq() -> bool:
    """Say whether this is a worker process of the ``dramatiq`` command, whose master understands SIGHUP."""
    return _taken


def take_once(number: signal.Signals, first_thing: Callable[[], object]) -> None:
    """Wrap the handler of ``number`` so that it does not see repetitions. Main thread only.

    Nor does it see that a worker which is being replaced (SIGHUP) is asked to stop (SIGTERM): it stops
    already, and Dramatiq would take that, too, for "do not wait for anything". ``first_thing`` is
    called when the request comes, in a thread of its own: a handler may interrupt whatever holds the
    locks that it needs.
    """
    global _taken  # noqa: PLW0603 - a process has one set of handlers
    _taken = True
    handler = signal.getsignal(number)
    if not callable(handler) or threading.current_thread() is not threading.main_thread():
        return
    first = float("-inf")
    # Then its master, which was still booting, too, and hears of nothing meanwhile, will repeat it.
    asked_before = _was_asked(handler)

    def once(received: int, frame: FrameType | None) -> None:
        nonlocal first, asked_before
        now = time.monotonic()
        if now - first > ECHO_S:
            first = now
            threading.Thread(target=first_thing, name="first-thing", daemon=True).start()
            stops_already = asked_before or (bool(_heard) and received not in _heard)
            asked_before = False
            _heard.add(received)
            if not stops_already:
                handler(received, frame)

    signal.signal(number, once)


def _was_asked(handler: Callable[..., Any]) -> bool:
    """Say whether Dramatiq's ``handler`` has been called before it was wrapped, while modules were imported.

    It keeps that to itself, in a variable of the function around it (dramatiq/cli.py, worker_process).
    """
    found = inspect.getclosurevars(handler) if inspect.isfunction(handler) else None
    return found is not None and found.nonlocals.get("running") is False
