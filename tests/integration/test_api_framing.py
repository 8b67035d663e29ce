"""A body is as long as it is, whatever its headers say."""

from __future__ import annotations

import asyncio

import pytest

from api.limits import BodyLimit
from api.problems import HttpProblem

LIMIT = 100


def send_through(headers, chunks):
    """Send ``chunks`` through the limit to an app that reads them all; return what it read."""
    waiting = [{"type": "http.request", "body": c, "more_body": True} for c in chunks]
    waiting.append({"type": "http.request", "body": b"", "more_body": False})
    read = []

    async def receive():
        return waiting.pop(0)

    async def app(_scope, receive, _send):
        more = True
        while more:
            message = await receive()
            read.append(message["body"])
            more = message["more_body"]

    scope = {"type": "http", "method": "POST", "path": "/", "headers": headers}
    asyncio.run(BodyLimit(app, limit=LIMIT)(scope, receive, None))
    return b"".join(read)


def test_a_body_within_the_limit_passes():
    assert send_through([(b"content-length", b"5")], [b"12345"]) == b"12345"


@pytest.mark.parametrize("headers", [[], [(b"content-length", b"5")]])
def test_a_body_that_outgrows_the_limit_is_refused_whatever_length_it_declared(headers):
    with pytest.raises(HttpProblem) as caught:
        send_through(headers, [b"x" * 60, b"x" * 60])

    assert caught.value.status_code == 413


def test_a_body_that_is_framed_in_two_ways_is_refused():
    headers = [(b"content-length", b"5"), (b"transfer-encoding", b"chunked")]

    with pytest.raises(HttpProblem) as caught:
        send_through(headers, [b"12345"])

    assert caught.value.status_code == 400
