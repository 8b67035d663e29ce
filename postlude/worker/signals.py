"""A request to stop counts once, and at once.

A service manager sends SIGTERM to all processes of a service, and Dramatiq's master forwards its own to
its children: they get it twice, and Dramatiq takes the second one as "do not wait for anything". The
first one it notices up to a second later.
"""

from __future__ import annotations

import signal
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

ECHO_S = 2.0
"""A repetition within this time is the same request; later ones mean what they say."""


def take_once(number: signal.Signals, first_thing: Callable[[], object]) -> None:
    """Wrap the handler of ``number`` so that it does not see repetitions. Main thread only.

    ``first_thing`` is called when the request comes, in a thread of its own: a handler may interrupt
    whatever holds the locks that it needs.
    """
    handler = signal.getsignal(number)
    if not callable(handler) or threading.current_thread() is not threading.main_thread():
        return
    first = float("-inf")

    def once(received: int, frame: FrameType | None) -> None:
        nonlocal first
        now = time.monotonic()
        if now - first > ECHO_S:
            first = now
            threading.Thread(target=first_thing, name="first-thing", daemon=True).start()
            handler(received, frame)

    signal.signal(number, once)
