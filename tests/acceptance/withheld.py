"""The application, which sends no answer to a request with the header X-Withhold: `uvicorn withheld:app`.

When such an answer is about to leave, it says so on standard output and waits for ever.
"""

from __future__ import annotations

import asyncio
import sys

import api


async def app(scope, receive, send):
    """Serve one request, or let its answer get no further than here."""
    if scope["type"] == "http" and b"x-withhold" in dict(scope["headers"]):
        await api.app(scope, receive, _withhold)
    else:
        await api.app(scope, receive, send)


async def _withhold(_message):
    sys.stdout.write("withheld\n")
    sys.stdout.flush()
    await asyncio.Event().wait()
