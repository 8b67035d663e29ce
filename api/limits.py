"""How large a request body may be.

Pure ASGI. A body that says that it is too large is refused before a byte of it is read; one that
does not say (chunked) as soon as it has grown too large.
"""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import Code, HttpProblem


class BodyLimit:
    """Refuse bodies over ``limit`` bytes with 413; raises HttpProblem, see :mod:`api.edge`."""

    def __init__(self, app: ASGIApp, *, limit: int) -> None:
        self.app = app
        self.limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        length = _declared_length(scope)
        if length is None:
            receive = self._counting(receive)
        elif length > self.limit:
            raise self._too_large()
        await self.app(scope, receive, send)

    def _counting(self, receive: Receive) -> Receive:
        left = self.limit

        async def count() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise self._too_large()
            return message

        return count

    def _too_large(self) -> HttpProblem:
        detail = (
            f"A body may have {self.limit} bytes here; send less, or raise POSTLUDE_BODY_LIMIT."
        )
        # The rest of the body is not read: this connection can carry no other request.
        return HttpProblem(Code.PAYLOAD_TOO_LARGE, detail, headers={"connection": "close"})


def _declared_length(scope: Scope) -> int | None:
    """Return the length that the server holds the client to, or None if it gave none."""
    for name, value in scope["headers"]:
        if name == b"content-length":
            if not value.isdigit():
                message = "Content-Length must be a number of bytes."
                raise HttpProblem(Code.BAD_REQUEST, message)
            return int(value)
    return None
