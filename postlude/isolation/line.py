"""The line between a worker and its child: a socket with one JSON object a line, in both directions."""

from __future__ import annotations

import json
import select
import threading
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import socket

_PIECE = 64 * 1024


class Line:
    """One end of the line. Any thread may say something; only one may listen."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._heard = bytearray()
        self._poll = select.poll()
        self._poll.register(end, select.POLLIN)
        self._lock = threading.Lock()

    def say(self, **frame: Any) -> None:
        """Send one frame; waits while the other end does not listen. OSError when it is gone."""
        data = json.dumps(frame, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            self._end.sendall(data)

    def hear(self, timeout_s: float | None = None) -> dict[str, Any] | None:
        """Return the next frame; None when none came in time. EOFError when the other end is gone."""
        while (end := self._heard.find(b"\n")) < 0:
            if timeout_s is not None and not self._poll.poll(max(0.0, timeout_s) * 1000):
                return None
            self._listen()
        frame, self._heard = self._heard[:end], self._heard[end + 1 :]
        return cast("dict[str, Any]", json.loads(frame))

    def close(self) -> None:
        """Hang up; the other end hears EOF."""
        self._end.close()

    def _listen(self) -> None:
        try:
            data = self._end.recv(_PIECE)
        except OSError as error:
            raise EOFError(str(error)) from None
        if not data:
            raise EOFError
        self._heard += data
