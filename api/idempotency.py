"""``Idempotency-Key`` on the routes that add tasks.

Callers are told apart by their API key, whichever header it came in; without keys there is one.
"""

from __future__ import annotations

from fastapi import Request

from api import uploads
from api.json_bodies import JsonRoute
from api.security import CALLER
from api.uploads import Upload
from postlude import IdempotentRoute
from postlude.dispatch.idempotency import FINGERPRINT, fingerprint


class KeyRoute(IdempotentRoute):
    """A route that may be repeated under a key."""

    def caller(self, request: Request) -> bytes:
        """Return the secret of the caller's API key, empty if none is needed."""
        caller: bytes = request.scope.get(CALLER, b"")
        return caller


class JsonKeyRoute(KeyRoute, JsonRoute):
    """A route that may be repeated under a key and reads its body as strict JSON."""


class UploadRoute(KeyRoute):
    """A route that streams its body to the storage, and may be repeated under a key.

    What counts is the file: its content and its name, not how the body wraps it. A repetition is
    read to its end, to compare it, but not stored.
    """

    async def read(self, request: Request, *, repeated: bool) -> Request:
        """Leave the body to :func:`note`; that of a repetition is read here."""
        if repeated:
            limit = request.app.state.settings.file_limit
            note(request, await uploads.look(request, limit=limit))
        return request


def note(request: Request, upload: Upload) -> None:
    """Make the fingerprint of an upload known, once all of it has been read."""
    content = f"{upload.sha256} {upload.name}".encode("utf-8", "backslashreplace")
    request.scope[FINGERPRINT] = fingerprint(request, content)
