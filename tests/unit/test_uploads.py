"""Several blocks of an upload are in flight while the disk is slow, but not any number of them."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress

import pytest
from fastapi import Request

from api import uploads
from api.uploads import BLOCK, IN_FLIGHT

HEAD = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n\r\n'
BLOCKS = 20
CONTENT = b"".join(bytes([n]) * BLOCK for n in range(BLOCKS))


class Disk:
    """A storage whose every write waits until it is let go."""

    def __init__(self):
        self.may_write = threading.Event()
        self.written = b""
        self.published = False
        self.discarded = threading.Event()

    def draft(self, _key):
        return self

    def write(self, block):
        assert self.may_write.wait(30)
        self.written += block

    def publish(self):
        self.published = True

    def discard(self):
        self.discarded.set()


class Client:
    """Sends a file, block by block, and counts what is taken from it."""

    def __init__(self, content=CONTENT):
        self.content = content
        self.taken = 0

    async def receive(self):
        self.taken += 1
        if self.taken == 1:
            return {"type": "http.request", "body": HEAD, "more_body": True}
        at = (self.taken - 2) * BLOCK
        if at < len(self.content):
            return {
                "type": "http.request",
                "body": self.content[at : at + BLOCK],
                "more_body": True,
            }
        return {"type": "http.request", "body": b"\r\n--x--\r\n", "more_body": False}

    @property
    def request(self):
        headers = [(b"content-type", b"multipart/form-data; boundary=x")]
        return Request({"type": "http", "method": "POST", "headers": headers}, self.receive)


async def until_nothing_moves():
    """Let the loop turn; with the disk at a stand nothing wakes it any more."""
    for _ in range(1000):
        await asyncio.sleep(0)


async def upload(disk, client, *, then):
    receiving = asyncio.ensure_future(uploads.receive(client.request, disk, limit=len(CONTENT)))
    await until_nothing_moves()
    try:
        return await then(receiving)
    finally:
        disk.may_write.set()
        receiving.cancel()
        with suppress(asyncio.CancelledError):
            await receiving


def test_reading_goes_on_while_the_disk_is_busy_up_to_a_few_blocks_and_then_waits():
    disk, client = Disk(), Client()

    async def write_now(receiving):
        assert not receiving.done()
        assert disk.written == b""
        assert client.taken == 1 + IN_FLIGHT > 2
        disk.may_write.set()
        return await receiving

    found = asyncio.run(upload(disk, client, then=write_now))

    assert disk.written == CONTENT
    assert disk.published
    assert found.size == len(CONTENT)


def test_a_disk_that_fails_later_than_it_was_asked_fails_the_upload():
    disk, client = Disk(), Client()

    def fail(_block):
        message = "no room"
        raise OSError(message)

    async def fail_now(receiving):
        disk.write = fail
        disk.may_write.set()
        return await receiving

    with pytest.raises(OSError, match="no room"):
        asyncio.run(upload(disk, client, then=fail_now))
    assert disk.discarded.wait(30)
    assert not disk.published
    assert client.taken < BLOCKS


def test_after_a_write_that_failed_the_storage_is_asked_for_nothing_but_to_discard():
    disk, client, tried = Disk(), Client(CONTENT[: (IN_FLIGHT - 2) * BLOCK]), []
    failing = threading.Event()

    def fail(block):
        tried.append(block)
        assert failing.wait(30)
        message = "no room"
        raise OSError(message)

    async def fail_once_all_is_in_flight(receiving):
        assert not receiving.done()
        assert client.taken == IN_FLIGHT, "all of it: what is next is to publish it"
        failing.set()
        return await receiving

    disk.write = fail
    with pytest.raises(OSError, match="no room"):
        asyncio.run(upload(disk, client, then=fail_once_all_is_in_flight))

    assert disk.discarded.wait(30)
    assert len(tried) == 1
    assert not disk.published


def test_of_a_client_that_leaves_nothing_more_is_written():
    disk, client, written = Disk(), Client(), []

    def write(block):
        written.append(block)
        assert disk.may_write.wait(30)

    async def leave(receiving):
        receiving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await receiving

    disk.write = write
    asyncio.run(upload(disk, client, then=leave))

    assert disk.discarded.wait(30)
    assert len(written) == 1
