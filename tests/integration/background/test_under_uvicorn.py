"""The drop-in behind a real server: slow tasks, clients that go away, a stop that does not wait."""

from __future__ import annotations

import asyncio
import socket
import threading

import httpx2
import pytest
from fastapi.responses import StreamingResponse

from postlude import BackgroundTasks


@pytest.fixture
def site(one_site):
    return one_site


def _post(address, path="/"):
    """Send a request without waiting for its response."""
    client = socket.create_connection(address)
    client.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
    return client


def test_a_slow_task_in_process_holds_up_neither_the_response_nor_the_release(
    site, keep, serve, until
):
    go_on = threading.Event()

    @site.app.post("/")
    async def endpoint(tasks: BackgroundTasks):
        tasks.add_task(go_on.wait, 10)
        tasks.add_task(site.events.append, "slow one done")
        tasks.add_task(keep, 1)

    server = serve(site.app)
    response = httpx2.post(server.url)
    until(lambda: site.tasks() == [(1, "queued")])

    assert response.status_code == 200
    assert site.events == []
    go_on.set()
    server.stop()
    assert site.events == ["slow one done"]


def test_a_stop_that_cancels_a_task_in_process_keeps_the_durable_ones(site, keep, serve, until):
    begun = threading.Event()

    async def endless():
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            site.events.append("cancelled")

    @site.app.post("/")
    async def endpoint(tasks: BackgroundTasks):
        tasks.add_task(endless)
        tasks.add_task(keep, 1)

    server = serve(site.app, timeout_graceful_shutdown=0)
    assert httpx2.post(server.url).status_code == 200
    assert begun.wait(10)
    server.stop()

    assert site.events == ["cancelled"]
    site.settle()
    assert site.tasks() == [(1, "queued")]


def test_a_client_that_leaves_in_the_middle_of_a_stream_takes_no_task_with_it(
    site, keep, serve, until
):
    @site.app.post("/")
    async def endpoint(tasks: BackgroundTasks):
        tasks.add_task(keep, 1)
        tasks.add_task(site.events.append, "plain")

        async def body():
            yield b"x" * 10_000
            tasks.add_task(keep, 2)
            yield b"x"
            await asyncio.Event().wait()

        return StreamingResponse(body())

    server = serve(site.app)
    with _post(server.address) as client:
        until(lambda: len(client.recv(65536)) < 65536)
        until(lambda: site.tasks() == [(1, "accepted")])
    until(lambda: site.tasks() == [(1, "queued"), (2, "queued")])

    assert site.events == ["plain"]


def test_a_client_that_leaves_before_the_response_takes_no_task_with_it(site, keep, serve, until):
    entered, go_on = threading.Event(), threading.Event()

    @site.app.post("/")
    def endpoint(tasks: BackgroundTasks):
        tasks.add_task(keep, 1)
        tasks.add_task(site.events.append, "plain")
        entered.set()
        go_on.wait(10)

    server = serve(site.app)
    with _post(server.address):
        assert entered.wait(10)
    go_on.set()
    until(lambda: site.tasks() == [(1, "queued")])

    until(lambda: site.events == ["plain"])


def test_many_requests_at_once_are_all_accepted_each_with_its_own_tasks(site, keep, serve, until):
    @site.app.post("/{number}")
    async def endpoint(number: int, tasks: BackgroundTasks):
        return tasks.add_task(keep, number).id

    server = serve(site.app)

    async def send_all():
        async with httpx2.AsyncClient(base_url=server.url) as client:
            return await asyncio.gather(*(client.post(f"/{n}") for n in range(40)))

    given = [response.json() for response in asyncio.run(send_all())]

    until(lambda: [state for _, state in site.tasks()] == ["queued"] * 40)
    accepted = {view.id: view.arguments["x"] for view in site.views()}
    assert accepted == dict(zip(given, range(40), strict=True))
