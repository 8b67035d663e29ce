"""The answer to a request whose tasks are not accepted: an RFC 9457 problem, or what it got before."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from postlude.dispatch.answers import Answered, again
from postlude.errors import (
    AcceptUnknown,
    BadIdempotencyKey,
    IdempotencyMismatch,
    LedgerError,
    NotCommitted,
    PostludeError,
)

if TYPE_CHECKING:
    from starlette.types import Scope

_REQUEST_ID = "postlude.request_id"
_RETRY_AFTER_S = "5"
_TOLD = (LedgerError, NotCommitted, BadIdempotencyKey, IdempotencyMismatch)
"""The others are the endpoint's mistakes, of which the client knows nothing."""


def problem(error: PostludeError, scope: Scope) -> Response:
    """Return ``error`` as application/problem+json; with the ids if their fate is unknown.

    If the request had been answered before, return that answer.
    """
    if isinstance(error, Answered):
        return again(error.kept)
    if not isinstance(error, _TOLD):
        error = PostludeError("the tasks of this request cannot be accepted; the log says why")
    body: dict[str, Any] = {
        "type": f"urn:postlude:problem:{error.code}",
        "title": error.title,
        "status": error.status,
        "detail": str(error),
        "code": error.code,
    }
    if _REQUEST_ID in scope:
        body["instance"] = f"urn:postlude:request:{scope[_REQUEST_ID]}"
    if isinstance(error, AcceptUnknown):
        body["tasks"] = list(error.ids)
    unavailable = error.status == HTTPStatus.SERVICE_UNAVAILABLE
    headers = {"retry-after": _RETRY_AFTER_S} if unavailable else None
    return Response(json.dumps(body), error.status, headers, "application/problem+json")
