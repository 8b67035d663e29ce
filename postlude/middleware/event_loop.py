"""The event loop that async actors run on: Dramatiq's, in a thread that does not outlive its process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dramatiq.asyncio import EventLoopThread, get_event_loop_thread, set_event_loop_thread
from dramatiq.middleware import AsyncIO

if TYPE_CHECKING:
    from dramatiq import Broker, Worker

START_S = 1.0


class EventLoop(AsyncIO):
    """Dramatiq's AsyncIO with a daemon thread.

    Stock Dramatiq's thread keeps the process alive after a second SIGTERM has ended its main thread:
    the worker hangs, doing nothing, until it is killed.
    """

    def before_worker_boot(self, broker: Broker, worker: Worker) -> None:
        """Start the loop."""
        del broker, worker
        thread = EventLoopThread(self.logger)
        thread.daemon = True
        thread.start(timeout=START_S)
        set_event_loop_thread(thread)

    def after_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        """Stop the loop, if it is there."""
        del broker, worker
        thread = get_event_loop_thread()
        if thread is not None:
            thread.stop()
            set_event_loop_thread(None)
