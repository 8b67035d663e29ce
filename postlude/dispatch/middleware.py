"""The two moments of a request: accept innermost, release outermost. Pure ASGI.

Innermost, because nothing may buffer a response between the endpoint and the commit that promises
its tasks, and because a refusal should pass through the app's own middleware (CORS). Outermost,
because a middleware that holds the response back would otherwise see its tasks run first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from postlude.dispatch import promises
from postlude.dispatch.exchange import SCOPE_KEY, Exchange, Refused, current
from postlude.dispatch.problem import problem

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = structlog.get_logger()


class Release:
    """Outermost: opens the exchange, and settles it when the response is out and the call returns.

    By then default-scoped sessions have committed. If tasks run in process, durable ones do not
    wait for them: they are released at the last byte.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection; only HTTP requests that no outer app looks after are ours."""
        if scope["type"] != "http" or SCOPE_KEY in scope:
            await self.app(scope, receive, send)
            return
        exchange = scope[SCOPE_KEY] = Exchange()
        promises.await_tasks()

        async def watched(message: Message) -> None:
            await send(message)
            if _is_last(message):
                exchange.sent = True
                if exchange.bundles:
                    exchange.release_early()

        before = current.set(exchange)
        try:
            await self.app(scope, receive, watched)
        except Exception:
            if _has_late(exchange):
                await _accept_leftovers(exchange, broken=False)
            raise
        else:
            if _has_late(exchange):
                await _accept_leftovers(exchange, broken=False)
        finally:
            current.reset(before)
            exchange.finish()


class Accept:
    """Innermost: stores the tasks before the response may start, late ones before it may end.

    When that fails, an exception unwinds the request and the answer is a problem.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection; anything but an HTTP request passes untouched."""
        exchange: Exchange | None = scope.get(SCOPE_KEY)
        if exchange is None:
            await self.app(scope, receive, send)
            return

        async def accepting(message: Message) -> None:
            starts = message["type"] == "http.response.start"
            last = not starts and _is_last(message)
            if exchange.refusal is not None:
                return  # whoever swallowed the refusal does not get to answer instead
            if (starts or last) and exchange.owes_more:
                await exchange.accept()
            exchange.started = exchange.started or starts
            exchange.complete = exchange.complete or last
            await send(message)

        try:
            await self.app(scope, receive, accepting)
        except Exception as error:  # noqa: BLE001 # raised again, unless it is our own refusal
            await _after_failure(exchange, error)
        else:
            await _accept_leftovers(exchange, broken=False)
        if exchange.refusal is not None and not exchange.started:
            answer = problem(exchange.refusal, scope)
            exchange.refusal = None  # an outer app's Accept has to let the answer pass
            await answer(scope, receive, send)


async def _after_failure(exchange: Exchange, error: Exception) -> None:
    """Raise what the server has to hear; return if the error is our refusal, to be answered."""
    if exchange.refusal is None and exchange.excuses(error):
        return
    if exchange.refusal is None:
        await _accept_leftovers(exchange, broken=not exchange.complete)
        raise error
    if not isinstance(error, Refused):
        log.warning("task.refusal_replaced", by=type(error).__name__, exc_info=error)
    if exchange.started:
        raise exchange.refusal from error


def _has_late(exchange: Exchange) -> bool:
    """Say whether a middleware has added tasks after the app returned, with a whole response."""
    return exchange.complete and any(bundle.is_fresh for bundle in exchange.bundles)


async def _accept_leftovers(exchange: Exchange, *, broken: bool) -> None:
    """Store what was added after the last byte, which promised nothing to the client any more.

    A response that broke off takes what it had not promised with it, as any failed request does.
    """
    late = [b for b in exchange.bundles if b.is_fresh]
    if not late or exchange.refusal is not None:
        return
    ids = [row.id for bundle in late for row in bundle.rows[bundle.stored :]]
    if broken:
        log.warning("task.dropped", task_ids=ids, reason="the response broke off before its end")
        return
    try:
        await exchange.accept()
    except Refused:
        log.exception("task.lost", task_ids=ids, reason="added after the response, not stored")


def _is_last(message: Message) -> bool:
    kind: str = message["type"]
    if kind == "http.response.body":
        return not message.get("more_body", False)
    return kind == "http.response.pathsend"
