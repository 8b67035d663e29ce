"""One keep-alive connection of the load client: sends a request, waits for all of the answer."""

from __future__ import annotations

import asyncio
import re
from typing import Protocol, cast

LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
END_OF_HEAD = b"\r\n\r\n"


class Load(Protocol):
    """What a connection asks and tells whoever is behind the load."""

    def next_request(self, connection: Connection) -> None:
        """Have the connection send its next request when that is due, or none any more."""

    def answered(self, connection: Connection) -> None:
        """Count an answer."""

    def fail(self, reason: str) -> None:
        """Stop: an error would make every figure wrong."""


class Connection(asyncio.Protocol):
    """One request at a time; ``due`` is when the present one was to be sent, ``number`` its task's."""

    def __init__(self, load: Load, due: float) -> None:
        self.due = due
        self.number = 0
        self._load = load
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        self._closed = False

    def send(self, request: bytes) -> None:
        """Send a request, which nobody pipelines behind another."""
        if self._transport:
            self._transport.write(request)

    def close(self) -> None:
        """Hang up."""
        self._closed = True
        if self._transport:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)
        self._load.next_request(self)

    def data_received(self, data: bytes) -> None:
        """Go on once all of an answer is here."""
        self._buffer += data
        head, end, body = self._buffer.partition(END_OF_HEAD)
        if not end:
            return
        length = LENGTH.search(head)
        if length is None or not head.startswith(b"HTTP/1.1 2"):
            self._load.fail(f"not the answer that was expected: {self._buffer[:300]!r}")
        elif len(body) >= int(length[1]):
            self._buffer = b""
            self._load.answered(self)
            self._load.next_request(self)

    def connection_lost(self, error: Exception | None) -> None:
        """Fail, unless it is we who have closed it."""
        if not self._closed:
            self._load.fail(f"the server has closed a connection ({error})")
