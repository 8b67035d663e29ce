"""Answers that are kept, so that a request which is repeated gets the same one: to text and back.

An answer is the response as the route made it: without what middleware adds on its way out, which a
repetition passes again, and without cookies, which are secrets.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from starlette.responses import Response

from postlude.errors import IdempotencyMismatch, PostludeError

if TYPE_CHECKING:
    from postlude.ledger.key import KeptAnswer

REPLAYED = b"idempotency-replayed"
"""The header that tells a repetition from the answer that it repeats."""
_LEFT_OUT = frozenset({b"content-length", b"set-cookie"})


class Answered(PostludeError):
    """Meanwhile another request with the same key and content was answered: that answer counts."""

    def __init__(self, kept: KeptAnswer) -> None:
        super().__init__("this request was answered before; its answer is given again")
        self.kept = kept


def pack(response: Response) -> str:
    """Return ``response`` as text; TypeError for one whose body is not known yet."""
    body = getattr(response, "body", None)
    if body is None:
        message = (
            f"a {type(response).__name__} cannot be given again to a request that is repeated, since "
            "its body is not known when it starts; return another response where keys are taken"
        )
        raise TypeError(message)
    headers = [pair for pair in response.raw_headers if pair[0] not in _LEFT_OUT]
    return json.dumps(
        {
            "status": response.status_code,
            "headers": [
                [name.decode("latin-1"), value.decode("latin-1")] for name, value in headers
            ],
            "body": bytes(body).decode("latin-1"),  # any byte has its character there
        }
    )


def again(kept: KeptAnswer) -> Response:
    """Return the answer as it was given, with a header that says so."""
    found = json.loads(kept.text)
    response = Response(found["body"].encode("latin-1"), found["status"])
    response.raw_headers += [
        *((name.encode("latin-1"), value.encode("latin-1")) for name, value in found["headers"]),
        (REPLAYED, b"true"),
    ]
    return response


def compare(kept: KeptAnswer, fingerprint: str) -> None:
    """Raise IdempotencyMismatch unless ``kept`` is the answer to a request like this one."""
    if kept.fingerprint != fingerprint:
        message = (
            "this Idempotency-Key came with another query or body before; take a new key for a new "
            "request, and repeat a request as it was"
        )
        raise IdempotencyMismatch(message)
