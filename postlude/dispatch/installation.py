"""``postlude.install(app)``: puts the two middlewares where they must be, and keeps them there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.middleware import Middleware
from starlette.middleware.errors import ServerErrorMiddleware

from postlude.dispatch.middleware import Accept, Release
from postlude.dispatch.stock import tell_of_stock_tasks

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from starlette.applications import Starlette
    from starlette.types import ASGIApp, Receive, Scope, Send


def install(app: Starlette) -> None:
    """Let ``app``, FastAPI or Starlette, accept tasks before its responses and release them after.

    Call it once while the app is being built, before or after the ``add_middleware`` calls; another
    call changes nothing. A mounted app needs none of its own. Opens nothing and starts nothing, the
    first task does that. When the app begins to serve, one line of the log names the routes that still
    use FastAPI's class. Raises RuntimeError when the app is serving already.
    """
    if any(_is_ours(middleware) for middleware in app.user_middleware):
        return
    if app.middleware_stack is not None:
        message = (
            "postlude.install(app) came too late: the app has served already and its middleware is"
            " built; call it where the app is made"
        )
        raise RuntimeError(message)
    app.user_middleware.append(Middleware(Accept))
    build = app.build_middleware_stack

    def build_with_release() -> ASGIApp:
        # Only here is it known that no add_middleware() follows. Tools that instrument an app hook
        # in at the same place, expect a ServerErrorMiddleware and take what is in it.
        _move_accept_innermost(app)
        tell_of_stock_tasks(app.routes)
        return _Outermost(Release(build()))

    app.build_middleware_stack = build_with_release  # type: ignore[method-assign]


class _Outermost(ServerErrorMiddleware):
    """What such tools look for. It does nothing: errors are seen to by Starlette's own, further in."""

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:  # type: ignore[override]
        """Pass on, without a frame of its own."""
        return self.app(scope, receive, send)


def _move_accept_innermost(app: Starlette) -> None:
    others = [middleware for middleware in app.user_middleware if not _is_ours(middleware)]
    app.user_middleware[:] = [*others, Middleware(Accept)]


def _is_ours(middleware: Middleware) -> bool:
    cls: object = middleware.cls
    return cls is Accept
