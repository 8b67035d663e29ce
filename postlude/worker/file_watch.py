"""Waiting for writes to a file, by Linux's inotify(7); elsewhere there is nothing to wait with.

Python has no module for it, and a library would be one more dependency for three system calls.
"""

from __future__ import annotations

import ctypes
import os
import select
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

IN_MODIFY = 0x2
"""From <sys/inotify.h>: somebody has written to the file."""
EVENTS_AT_ONCE = 65_536
"""Bytes; equal events that follow each other are one, so a read takes all there are."""


class FileWatch:
    """Tells of writes to one file that exists; one thread waits, any may :meth:`interrupt` it."""

    def __init__(self, path: Path) -> None:
        """Begin to watch; raises OSError where that is not possible."""
        if sys.platform != "linux":
            message = "only Linux has inotify"
            raise OSError(message)
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1 failed")
        if libc.inotify_add_watch(self._fd, os.fsencode(path), IN_MODIFY) < 0:
            number = ctypes.get_errno()
            os.close(self._fd)
            raise OSError(number, f"{path} cannot be watched: {os.strerror(number)}")
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)
        self._poll.register(self._bell, select.POLLIN)

    def wait(self, limit_s: float) -> bool:
        """Return True as soon as the file has been written to since the last call, else False."""
        if self._fd not in dict(self._poll.poll(limit_s * 1000)):
            return False
        os.read(self._fd, EVENTS_AT_ONCE)
        return True

    def interrupt(self) -> None:
        """End the wait that is under way, and all that follow."""
        os.eventfd_write(self._bell, 1)

    def close(self) -> None:
        """Stop watching."""
        os.close(self._fd)
        os.close(self._bell)
