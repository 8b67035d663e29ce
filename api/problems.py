"""Errors over HTTP: each one is an RFC 9457 problem with a stable code.

Three sources feed this module: :class:`HttpProblem`, raised by this package; errors of Starlette
and FastAPI; and :class:`~postlude.errors.PostludeError`, whose classes bring code and status.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Scope

from postlude.errors import AcceptUnknown, BadArguments, PostludeError

log = structlog.get_logger()

MEDIA_TYPE = "application/problem+json"
REQUEST_ID = "postlude.request_id"
"""Where the ASGI scope carries the id of the request; see :mod:`api.edge`."""

_RETRY_AFTER_S = "5"
_MOST_FAULTS = 50
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")

Fault = dict[str, str]
"""One thing that is wrong: ``{"in": "body", "pointer": "/options/delay", "detail": "…"}``."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What every problem with one code has in common."""

    status: int
    title: str


class Code(StrEnum):
    """The codes that only HTTP knows; those of :mod:`postlude.errors` are the others."""

    BAD_REQUEST = "bad-request"
    MALFORMED_JSON = "malformed-json"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    STRANGER = "stranger"
    NOT_FOUND = "not-found"
    METHOD_NOT_ALLOWED = "method-not-allowed"
    ACTOR_NOT_LOADED = "actor-not-loaded"
    PAYLOAD_TOO_LARGE = "payload-too-large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported-media-type"
    VALIDATION = "validation"
    INTERNAL_ERROR = "internal-error"
    NOT_READY = "not-ready"


HTTP_PROBLEMS: Mapping[str, Kind] = {
    Code.BAD_REQUEST: Kind(400, "The request makes no sense"),
    Code.MALFORMED_JSON: Kind(400, "The body is not the JSON that is understood here"),
    Code.UNAUTHORIZED: Kind(401, "A key is needed"),
    Code.FORBIDDEN: Kind(403, "The key's role does not allow this"),
    Code.STRANGER: Kind(403, "Without keys, only this machine is served"),
    Code.NOT_FOUND: Kind(404, "There is nothing at this address"),
    Code.METHOD_NOT_ALLOWED: Kind(405, "This address does not answer this method"),
    Code.ACTOR_NOT_LOADED: Kind(409, "Workers know this actor, but this process does not"),
    Code.PAYLOAD_TOO_LARGE: Kind(413, "The body is too large"),
    Code.UNSUPPORTED_MEDIA_TYPE: Kind(415, "The body has a type that is not understood here"),
    Code.VALIDATION: Kind(422, "The request does not fit what is expected here"),
    Code.INTERNAL_ERROR: Kind(500, PostludeError.title),
    Code.NOT_READY: Kind(503, "This process cannot serve requests at the moment"),
}
_CODE_OF_STATUS = {
    400: Code.BAD_REQUEST,
    401: Code.UNAUTHORIZED,
    403: Code.FORBIDDEN,
    404: Code.NOT_FOUND,
    405: Code.METHOD_NOT_ALLOWED,
    413: Code.PAYLOAD_TOO_LARGE,
    415: Code.UNSUPPORTED_MEDIA_TYPE,
    422: Code.VALIDATION,
    500: Code.INTERNAL_ERROR,
}


class HttpProblem(HTTPException):
    """A refusal by this package, to be answered as the problem ``code``.

    ``detail`` is for people: what was refused, which one, what to do about it.
    """

    def __init__(
        self,
        code: Code,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        errors: Iterable[Fault] = (),
    ) -> None:
        super().__init__(HTTP_PROBLEMS[code].status, detail, headers)
        self.code = code
        self.errors = tuple(errors)


def install(app: FastAPI) -> None:
    """Make every error of ``app`` a problem."""
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(RequestValidationError, _on_validation)
    app.add_exception_handler(PostludeError, _on_postlude)
    app.add_exception_handler(Exception, on_unhandled)


def problem(
    scope: Scope,
    kind: Kind,
    code: str,
    detail: str,
    *,
    headers: Mapping[str, str] | None = None,
    **members: Any,
) -> Response:
    """Return the problem as a response; ``members`` that are empty are left out."""
    body: dict[str, Any] = {
        "type": f"urn:postlude:problem:{code}",
        "title": kind.title,
        "status": kind.status,
        "detail": detail,
        "code": code,
    }
    if REQUEST_ID in scope:
        body["instance"] = f"urn:postlude:request:{scope[REQUEST_ID]}"
    body.update((name, value) for name, value in members.items() if value)
    # Escaping everything outside ASCII keeps a text that cannot be encoded from becoming a 500.
    response = Response(json.dumps(body), kind.status, headers, MEDIA_TYPE)
    if kind.status == HTTPStatus.SERVICE_UNAVAILABLE:
        response.headers.setdefault("retry-after", _RETRY_AFTER_S)
    return response


def refusal(scope: Scope, error: HttpProblem) -> Response:
    """Return the response to ``error``, for ASGI layers that no exception handler surrounds."""
    return problem(
        scope,
        HTTP_PROBLEMS[error.code],
        error.code,
        error.detail,
        headers=error.headers,
        errors=list(error.errors[:_MOST_FAULTS]),
    )


async def on_unhandled(request: Request, error: Exception) -> Response:
    """Log an error that nobody foresaw and answer 500, with nothing but the id to find it by."""
    log.error(
        "request.failed",
        method=request.method,
        path=request.url.path,
        correlation_id=request.scope.get(REQUEST_ID),
        exc_info=error,
    )
    detail = "The server's log has the cause, under the id of this request."
    return problem(request.scope, HTTP_PROBLEMS[Code.INTERNAL_ERROR], Code.INTERNAL_ERROR, detail)


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 # what it is registered for
    if isinstance(error, HttpProblem):
        return refusal(request.scope, error)
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        return _wrong_method(request)
    if error.status_code < HTTPStatus.BAD_REQUEST or error.status_code in {204, 304}:
        return Response(status_code=error.status_code, headers=error.headers)
    return _bare(request.scope, error)


def _bare(scope: Scope, error: HTTPException) -> Response:
    """Answer an error that has a status and words, but no code of its own."""
    status = HTTPStatus(error.status_code)
    code = _CODE_OF_STATUS.get(status) or status.phrase.lower().replace(" ", "-").replace("'", "")
    kind = HTTP_PROBLEMS.get(code) or Kind(status, status.phrase)
    detail = str(error.detail or status.description or status.phrase)
    if status == HTTPStatus.NOT_FOUND and detail == status.phrase:
        detail = f"Nothing is served at {scope['path'][:200]}; /docs lists what is."
    return problem(scope, kind, code, detail, headers=error.headers)


def _wrong_method(request: Request) -> Response:
    """Answer OPTIONS with the methods of this address, any other with 405 and the same list."""
    allowed = [method for method in _METHODS if _serves(request, method)]
    if "GET" in allowed:
        allowed.insert(1, "HEAD")
    headers = {"allow": ", ".join([*allowed, "OPTIONS"])}
    if request.method == "OPTIONS":
        return Response(status_code=204, headers=headers)
    code = Code.METHOD_NOT_ALLOWED
    detail = f"{request.method[:20]} is not answered here; use one of {headers['allow']}."
    return problem(request.scope, HTTP_PROBLEMS[code], code, detail, headers=headers)


def _serves(request: Request, method: str) -> bool:
    scope = {**request.scope, "method": method}
    return any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)


async def _on_validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 # what it is registered for
    faults = [_fault(entry) for entry in error.errors()[:_MOST_FAULTS]]
    first = faults[0]
    place = " ".join(part for part in (first["in"], first["pointer"]) if part)
    detail = f"{place}: {first['detail']}"
    return problem(
        request.scope, HTTP_PROBLEMS[Code.VALIDATION], Code.VALIDATION, detail, errors=faults
    )


def _fault(entry: Mapping[str, Any]) -> Fault:
    where, *path = entry["loc"]
    pointer = "".join(f"/{str(p).replace('~', '~0').replace('/', '~1')}" for p in path)
    words = entry["msg"].removeprefix("Value error, ")
    return {"in": str(where), "pointer": pointer, "detail": words}


async def _on_postlude(request: Request, error: Exception) -> Response:
    assert isinstance(error, PostludeError)  # noqa: S101 # what it is registered for
    if error.status == HTTPStatus.INTERNAL_SERVER_ERROR:
        return await on_unhandled(request, error)
    return problem(
        request.scope,
        Kind(error.status, error.title),
        error.code,
        str(error),
        errors=list(error.errors) if isinstance(error, BadArguments) else [],
        tasks=list(error.ids) if isinstance(error, AcceptUnknown) else [],
    )
