"""An upload on its way from the socket to the storage, in flat memory whatever its size.

Blocks are hashed and written by a thread of the upload's own while the event loop reads the next
ones. A few blocks may wait for the disk; after that, the client does.
"""

from __future__ import annotations

from asyncio import wrap_future
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

import uuid_utils
from fastapi import Request

from actors.files.name import shown
from actors.files.storage import Draft
from api.limits import declared_length
from api.multipart import FIELD, FileForm
from api.problems import Code, HttpProblem

BLOCK = 256 * 1024
IN_FLIGHT = 4
"""Blocks of one upload that may wait to be written."""
ENVELOPE = 64 * 1024
"""How much a body may have beside the file: boundaries and headers."""


class Drafts(Protocol):
    """Where an upload goes: the one thing that is needed of a storage."""

    def draft(self, key: str) -> Draft:
        """Begin to write."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that has been read, and is stored under its id. ``name`` is for people to see."""

    id: str
    name: str
    size: int
    sha256: str


async def receive(request: Request, storage: Drafts, *, limit: int) -> Upload:
    """Store the file in the body of ``request``; durable when this returns.

    Raises HttpProblem for a body that is no such thing, or has more than ``limit`` bytes of file:
    then the rest is not read. Raises StorageUnavailable, or ClientDisconnect. Whatever it raises,
    and when it is cancelled, nothing stays in the storage.
    """
    _check_headers(request, limit)
    form = FileForm(request.headers.get("content-type", ""))
    pen = _Pen(storage, str(uuid_utils.uuid7()))
    try:
        name = await _fill(pen, request, form, limit)
        await pen.publish()
    except BaseException:  # a client that leaves cancels us: nothing may stay then, either
        pen.discard()
        raise
    finally:
        pen.close()
    return Upload(pen.id, name, pen.size, pen.hexdigest())


async def look(request: Request, *, limit: int) -> Upload:
    """Read the file in the body of ``request`` and store nothing; otherwise as :func:`receive`."""
    return await receive(request, _Nowhere(), limit=limit)


async def _fill(pen: _Pen, request: Request, form: FileForm, limit: int) -> str:
    """Give ``pen`` the file in the body; return the name to show."""
    read = 0
    async for chunk in request.stream():
        read += len(chunk)
        await pen.write(form.feed(chunk))
        if pen.size > limit or read - pen.size > ENVELOPE:
            raise _too_large(limit)
    name = shown(form.finish())
    if not pen.size:
        raise _empty(name)
    return name


class _Pen:
    """Writes one file, in order, in a thread of its own."""

    def __init__(self, storage: Drafts, file_id: str) -> None:
        self.id = file_id
        self.size = 0
        self._storage = storage
        self._draft: Draft | None = None
        self._hash = sha256()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="upload")
        self._pending: deque[Future[None]] = deque()
        self._over = False
        self._held: list[bytes] = []
        self._held_size = 0

    async def write(self, pieces: list[bytes]) -> None:
        """Take more of the file; wait only if too much is on its way to the disk."""
        self._held += pieces
        added = sum(map(len, pieces))
        self.size += added
        self._held_size += added
        if self._held_size >= BLOCK:
            await self._send()

    async def publish(self) -> None:
        """Write what is held, and make the file durable."""
        await self._send()
        await self._do(self._publish, room_for=0)

    def discard(self) -> None:
        """Remove it all once the write under way has ended, without those behind it; waits for nothing."""
        self._over = True
        self._thread.submit(self._discard)

    def close(self) -> None:
        """Let the thread end after its last job."""
        self._thread.shutdown(wait=False)

    def hexdigest(self) -> str:
        """Return the SHA-256 of what has been written."""
        return self._hash.hexdigest()

    async def _send(self) -> None:
        pieces, self._held, self._held_size = self._held, [], 0
        await self._do(lambda: self._write(pieces), room_for=IN_FLIGHT - 1)

    async def _do(self, job: Callable[[], None], *, room_for: int) -> None:
        """Have ``job`` done after those before it; wait until at most ``room_for`` are pending."""
        self._pending.append(self._thread.submit(self._unless_over, job))
        while len(self._pending) > room_for:
            await wrap_future(self._pending.popleft())

    def _unless_over(self, job: Callable[[], None]) -> None:
        """Do ``job`` unless one before it has failed, which is what whoever waits is told of.

        A storage that hangs would keep each of them waiting, and what has a gap is not published.
        """
        if self._over:
            return
        try:
            job()
        except BaseException:
            self._over = True
            raise

    def _write(self, pieces: list[bytes]) -> None:
        if self._draft is None:
            self._draft = self._storage.draft(self.id)
        block = b"".join(pieces)
        self._hash.update(block)
        self._draft.write(block)

    def _publish(self) -> None:
        assert self._draft is not None  # noqa: S101 # an empty file is not published
        self._draft.publish()

    def _discard(self) -> None:
        if self._draft is not None:
            self._draft.discard()


class _Nowhere:
    """A storage that keeps nothing, and a draft of nothing."""

    def draft(self, key: str) -> Draft:
        del key
        return self

    def write(self, block: bytes) -> None: ...

    def publish(self) -> None: ...

    def discard(self) -> None: ...


def _check_headers(request: Request, limit: int) -> None:
    if request.headers.get("content-encoding", "identity") != "identity":
        detail = "A compressed body is not understood here; send it as it is."
        raise HttpProblem(Code.UNSUPPORTED_MEDIA_TYPE, detail)
    length = declared_length(request.scope)
    if length is not None and length > limit + ENVELOPE:
        raise _too_large(limit)


def _too_large(limit: int) -> HttpProblem:
    detail = f"A file may have {limit} bytes here; send less, or raise POSTLUDE_FILE_LIMIT."
    # The rest of the body is not read: this connection can carry no other request.
    return HttpProblem(Code.PAYLOAD_TOO_LARGE, detail, headers={"connection": "close"})


def _empty(name: str) -> HttpProblem:
    reason = f"the file {name!r} has no content"
    fault = {"in": "body", "pointer": f"/{FIELD}", "detail": reason}
    return HttpProblem(Code.VALIDATION, f"body /{FIELD}: {reason}", errors=[fault])
