"""Lists, page by page: ``{"items": […], "next": cursor or null}`` and a Link header (RFC 8288).

A cursor is the place after the last item that was shown, so a page neither repeats nor skips what
was there all along, however much is added meanwhile. It is opaque: its content may change.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import urlencode

from pydantic import BeforeValidator, WithJsonSchema
from starlette.responses import Response

_LARGEST = 2**63


def encode_cursor(seq: int) -> str:
    """Return the cursor for the page after the item ``seq``."""
    return base64.urlsafe_b64encode(str(seq).encode()).decode().rstrip("=")


def decode_cursor(text: Any) -> int:
    """Return the ``seq`` that a cursor stands for; raises ValueError for anything else."""
    try:
        padded = str(text) + "=" * (-len(str(text)) % 4)
        seq = int(base64.b64decode(padded, altchars=b"-_", validate=True))
    except ValueError:
        seq = 0
    if not 0 < seq < _LARGEST:
        message = "not a cursor; take it from 'next' of the page before, or leave it out"
        raise ValueError(message)
    return seq


Cursor = Annotated[int, BeforeValidator(decode_cursor), WithJsonSchema({"type": "string"})]


def link_next(response: Response, path: str, query: Mapping[str, Any], cursor: str | None) -> None:
    """Say in the Link header where the next page is, if there is one."""
    if cursor is None:
        return
    following = {name: value for name, value in query.items() if value is not None}
    following["cursor"] = cursor
    response.headers["link"] = f'<{path}?{urlencode(following)}>; rel="next"'
