"""How large a request body may be.

Pure ASGI. A body that says that it is too large is refused before a byte of it is read, any other as
soon as it has grown too large, whatever it said.
"""

from __future__ import annotations

from collections.abc import Container

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import Code, HttpProblem


class BodyLimit:
    """Refuse bodies over ``limit`` bytes with 413; raises HttpProblem, see :mod:`api.edge`.

    ``streamed`` are the paths whose routes read their bodies piece by piece, up to limits of their own.
    """

    def __init__(self, app: ASGIApp, *, limit: int, streamed: Container[str] = ()) -> None:
        self.app = app
        self.limit = limit
        self.streamed = streamed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or self._is_streamed(scope):
            await self.app(scope, receive, send)
            return
        length = declared_length(scope)
        if length is not None and length > self.limit:
            raise self._too_large()
        await self.app(scope, self._counting(receive), send)

    def _is_streamed(self, scope: Scope) -> bool:
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        return scope["method"] == "POST" and path in self.streamed

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


def declared_length(scope: Scope) -> int | None:
    """Return the length that the server holds the client to, or None if it gave none.

    Raises HttpProblem if that is no number, or if the client frames its body in two ways at once.
    """
    names = [name for name, _ in scope["headers"]]
    if b"content-length" in names and b"transfer-encoding" in names:
        message = "Content-Length and Transfer-Encoding exclude each other (RFC 9112, 6.3)."
        raise HttpProblem(Code.BAD_REQUEST, message, headers={"connection": "close"})
    for name, value in scope["headers"]:
        if name == b"content-length":
            if not value.isdigit():
                message = "Content-Length must be a number of bytes."
                raise HttpProblem(Code.BAD_REQUEST, message)
            return int(value)
    return None
