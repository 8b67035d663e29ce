"""The outermost layer of this package: the id of a request, HEAD, and errors that nobody foresaw.

Pure ASGI. What goes wrong further in leaves here as a problem, or, once the response has begun, as
an exception that makes the server close the connection, so that nobody takes half of it for all.
"""

from __future__ import annotations

import re

import structlog
import uuid_utils
from fastapi import Request
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import REQUEST_ID, HttpProblem, on_unhandled, refusal

log = structlog.get_logger()

REFUSAL = "refusal"
"""Where the application's state says why it does not start."""

_NO_SNIFFING = (b"x-content-type-options", b"nosniff")
_GOOD_ID = re.compile(rb"[A-Za-z0-9._:+/=-]{1,128}")


class Edge:
    """Give each request an id, which its log lines and its tasks carry as ``correlation_id``.

    A client may choose it with ``X-Request-ID`` (up to 128 letters, digits and ``._:+/=-``); any
    other value is replaced, not refused. Every response says it. HEAD is answered as GET without
    its body.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "lifespan":
            send = _in_plain_words(scope["app"], send)
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = scope[REQUEST_ID] = _request_id(scope)
        # Not unbound afterwards: a server runs each request in a context of its own.
        structlog.contextvars.bind_contextvars(correlation_id=request_id)
        sender = _Sender(scope, send, request_id)
        if sender.is_head:
            scope = {**scope, "method": "GET"}
        try:
            await self.app(scope, receive, sender)
        except ClientDisconnect:
            log.info("request.abandoned", path=scope["path"])
        except Exception as error:
            if sender.started:
                raise
            await (await _answer(scope, error))(scope, receive, sender)


class _Sender:
    """Sends a response with the request's id, and without its body if HEAD asked for it."""

    __slots__ = ("_headers", "_send", "is_head", "started")

    def __init__(self, scope: Scope, send: Send, request_id: str) -> None:
        self._send = send
        self._headers = ((b"x-request-id", request_id.encode()), _NO_SNIFFING)
        self.is_head = scope["method"] == "HEAD"
        self.started = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            message = {**message, "headers": [*message.get("headers", ()), *self._headers]}
        elif self.is_head and message.get("body"):
            message = {**message, "body": b""}
        await self._send(message)


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _GOOD_ID.fullmatch(value):
            return str(value, "ascii")
    return str(uuid_utils.uuid7())


async def _answer(scope: Scope, error: Exception) -> ASGIApp:
    if isinstance(error, HttpProblem):
        return refusal(scope, error)
    return await on_unhandled(Request(scope), error)


def _in_plain_words(app: Starlette, send: Send) -> Send:
    """Wrap a lifespan's ``send`` so that a foreseen failure is told without a traceback."""

    async def tell(message: Message) -> None:
        refusal = getattr(app.state, REFUSAL, None)
        if refusal and message["type"] == "lifespan.startup.failed":
            message = {**message, "message": refusal}
        await send(message)

    return tell
