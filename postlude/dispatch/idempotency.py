"""``Idempotency-Key``: a request that adds tasks may be repeated, and is done once.

The answer is stored in the commit that accepts the tasks, so there is no moment at which one is there
without the other. Nothing says "in progress": of two requests at once with one key both may come
as far as that commit, where one is refused and gets the other's answer. See
draft-ietf-httpapi-idempotency-key-header.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from hashlib import sha256
from typing import Any

import structlog
from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.types import Message

from postlude import process
from postlude.dispatch import answers, promises
from postlude.dispatch.exchange import SCOPE_KEY, Exchange
from postlude.dispatch.problem import problem
from postlude.door import stand_in
from postlude.errors import BadIdempotencyKey, NotInstalled, PostludeError
from postlude.ledger import clock
from postlude.ledger.key import Answer, KeptAnswer
from postlude.ledger.queries import keys
from postlude.settings import settings

log = structlog.get_logger()

FINGERPRINT = "postlude.fingerprint"
"""Where the ASGI scope carries the fingerprint of its request, once that is known."""

_HEADER = b"idempotency-key"
_SHOWN = frozenset({b"authorization", b"cookie"})
_METHODS = frozenset({"POST", "PATCH"})
_QUOTED = re.compile(r'"((?:[^"\\]|\\["\\])*)"')  # a String of RFC 8941
_KEY = re.compile(r"[ -~]{1,255}")

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class IdempotentRoute(APIRoute):
    """A route whose POST or PATCH may be repeated; use as ``APIRouter(route_class=IdempotentRoute)``.

    A request with an ``Idempotency-Key`` that was answered before gets the same answer, and neither
    the route nor its dependencies are called. That holds for answers that came with durable tasks, for
    as long as POSTLUDE_IDEMPOTENCY_RETENTION; any other request may be sent again anyway. What the
    route does besides adding tasks is undone for the slower of two at once as for any request that
    fails. Keys are apart by method, path and :meth:`caller`. A request without one is not touched.
    """

    def get_route_handler(self) -> Handler:
        """Return the route's handler, behind a look at the key."""
        handle = super().get_route_handler()
        if _METHODS.isdisjoint(self.methods or ()):
            return handle

        async def once(request: Request) -> Response:
            sent = [value for name, value in request.scope["headers"] if name == _HEADER]
            if not sent or stand_in():
                return await handle(request)
            return await self._once(request, sent, handle)

        return once

    def caller(self, request: Request) -> bytes:
        """Return what tells callers apart, who must not get each other's answers.

        By default the headers Authorization and Cookie. Override it where these change between two
        tries, or a repetition will not be known as one.
        """
        shown = (value for name, value in request.scope["headers"] if name in _SHOWN)
        return b"\n".join(shown)

    async def read(self, request: Request, *, repeated: bool) -> Request:
        """Make the request's fingerprint known and return a request that can still be read.

        By default that is a digest of query and body, which is read into memory. A route that streams
        its body may leave it to its dependencies, unless ``repeated``: then none will be called.
        """
        del repeated
        body = await request.body()
        request.scope[FINGERPRINT] = fingerprint(request, body)
        return Request(request.scope, _replaying(body, request.receive))

    async def _once(self, request: Request, sent: Sequence[bytes], handle: Handler) -> Response:
        exchange = _exchange(request)
        try:
            key, scope = read_key(sent), _scope(request, self.caller(request))
            kept = await _look_up(scope, key)
            request = await self.read(request, repeated=kept is not None)
            if kept is not None:
                answers.compare(kept, request.scope[FINGERPRINT])
                log.info("request.repeated", idempotency_key=key)
                return answers.again(kept)
        except PostludeError as error:
            return problem(error, request.scope)
        exchange.keyed = True
        response = await handle(request)
        now = clock.now()
        exchange.answer = Answer(
            scope=scope,
            key=key,
            fingerprint=request.scope[FINGERPRINT],
            text=answers.pack(response),
            answered_at=now,
            expires_at=now + settings().idempotency_retention,
        )
        return response


def fingerprint(request: Request, content: bytes) -> str:
    """Return what tells a repetition of ``request`` from another one with the same key."""
    return _digest(request.scope["query_string"], content)


def read_key(sent: Sequence[bytes]) -> str:
    """Return the key in the values of the header, quoted as in the draft or bare.

    Raises BadIdempotencyKey unless it is one key of 1 to 255 printable ASCII characters.
    """
    text = sent[0].strip(b" \t").decode("latin-1")
    if text.startswith('"'):
        quoted = _QUOTED.fullmatch(text)
        text = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else ""
    if len(sent) > 1 or not _KEY.fullmatch(text):
        message = (
            "send one Idempotency-Key with 1 to 255 printable ASCII characters, such as a random "
            "UUID, in double quotes or without"
        )
        raise BadIdempotencyKey(message)
    return text


def _exchange(request: Request) -> Exchange:
    exchange: Exchange | None = request.scope.get(SCOPE_KEY)
    if exchange is None:
        message = (
            f"the route {request.scope['path']!r} takes Idempotency-Keys, which needs "
            "postlude.install(app) on the app that serves it, before it starts"
        )
        raise NotInstalled(message)
    return exchange


def _scope(request: Request, caller: bytes) -> str:
    """Return what a key is unique among. A digest: paths and callers are nobody else's business."""
    path = request.scope["path"].encode("utf-8", "backslashreplace")
    return f"request:{_digest(request.scope['method'].encode(), path, caller)}"


def _digest(*parts: bytes) -> str:
    digest = sha256()
    for part in parts:
        digest.update(b"%d:%b" % (len(part), part))  # no two lists of parts look the same
    return digest.hexdigest()


async def _look_up(scope: str, key: str) -> KeptAnswer | None:
    await promises.door()  # opens the ledger, within a limit
    return await run_in_threadpool(_find, scope, key)


def _find(scope: str, key: str) -> KeptAnswer | None:
    with process.current().ledger.read() as connection:
        return keys.kept(connection, scope, key, clock.now())


def _replaying(body: bytes, receive: Callable[[], Awaitable[Message]]) -> Callable[..., Any]:
    """Return a ``receive`` that gives ``body``, which was read already, and then what follows it."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay
