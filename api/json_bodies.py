"""JSON bodies, read strictly: UTF-8, no NaN or infinity, no NUL, at most 200 levels deep.

Python's own reader takes NaN, lone surrogates and numbers beyond any double, all of which fail much
later, in a worker or in a database. What is refused here is refused before anything is stored.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic_core import from_json

from api.problems import Code, HttpProblem


class JsonRoute(APIRoute):
    """A route that reads its body as strict JSON; use as ``APIRouter(route_class=JsonRoute)``.

    Another media type is 415, a body that is not JSON 400; both before any dependency runs.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the route's handler, behind a stricter request if there is a body to read."""
        handle = super().get_route_handler()
        if self.body_field is None:
            return handle

        async def strict(request: Request) -> Response:
            request = _StrictRequest(request.scope, request.receive)
            await _check_type(request)
            return await handle(request)

        return strict


class _StrictRequest(Request):
    async def json(self) -> Any:
        body = await self.body()
        try:
            value = from_json(body)
        except ValueError as error:
            detail = f"The body is not JSON: {error}."
            raise HttpProblem(Code.MALFORMED_JSON, detail) from None
        fault = _fault(value)
        if fault:
            detail = f"The body has {fault}."
            raise HttpProblem(Code.MALFORMED_JSON, detail)
        return value


async def _check_type(request: Request) -> None:
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if request.headers.get("content-encoding", "identity") != "identity":
        detail = "A compressed body is not understood here; send it as it is."
        raise HttpProblem(Code.UNSUPPORTED_MEDIA_TYPE, detail)
    if content_type == "application/json" or content_type.endswith("+json"):
        return
    if content_type or await request.body():
        detail = "Send the body as Content-Type: application/json."
        raise HttpProblem(Code.UNSUPPORTED_MEDIA_TYPE, detail)


def _fault(value: Any) -> str | None:
    """Name what is in ``value`` that JSON cannot carry or a database cannot store, if anything."""
    left = [value]
    while left:
        item = left.pop()
        if isinstance(item, dict):
            left.extend(item)
            left.extend(item.values())
        elif isinstance(item, list):
            left.extend(item)
        elif isinstance(item, str) and "\0" in item:
            return "a NUL character in a text"
        elif isinstance(item, float) and not math.isfinite(item):
            return "a number that JSON cannot carry"
    return None
