"""Routes that still ask for FastAPI's own ``BackgroundTasks``, where an import was forgotten.

What they add runs in the web process and dies with it. An actor does too: FastAPI calls it as the
function that it is, and nothing else would ever say so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from fastapi.routing import iter_route_contexts
from starlette.routing import Mount

from postlude.dispatch.background import provide

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fastapi.dependencies.models import Dependant
    from starlette.routing import BaseRoute

log = structlog.get_logger()

_MOST_NAMED = 20


def tell_of_stock_tasks(routes: Sequence[BaseRoute]) -> None:
    """Log one warning that names the routes which use FastAPI's class, if any do."""
    found = list(stock_routes(routes))
    if found:
        log.warning(
            "task.stock_background_tasks",
            routes=found[:_MOST_NAMED],
            count=len(found),
            meaning="what they add dies with this process, actors too",
            hint="from postlude import BackgroundTasks",
        )


def stock_routes(routes: Sequence[BaseRoute], prefix: str = "") -> Iterator[str]:
    """Return methods and path of each route that is given FastAPI's object, or a dependency of it."""
    for context in iter_route_contexts(routes):
        path = f"{prefix}{context.path or ''}"
        if isinstance(context.route, Mount):
            yield from stock_routes(context.route.routes, path)
            continue
        dependant: Dependant | None = getattr(context, "dependant", None)
        if dependant is not None and _is_given_stock(dependant):
            yield f"{','.join(sorted(context.methods or ()))} {path}".strip()


def _is_given_stock(dependant: Dependant) -> bool:
    if dependant.call is provide:  # ours, which runs plain functions by FastAPI's list
        return False
    return dependant.background_tasks_param_name is not None or any(
        map(_is_given_stock, dependant.dependencies)
    )
