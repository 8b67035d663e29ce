"""The application in the storm: the real API, a door for many tasks at a time, a witness outside."""

from __future__ import annotations

import asyncio
import json
import os
from datetime import timedelta
from typing import TYPE_CHECKING

import dramatiq
import storm_actors
from fastapi import APIRouter, HTTPException
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

import postlude
from api import create_app
from postlude import BackgroundTasks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

router = APIRouter(route_class=postlude.IdempotentRoute)


class Wanted(BaseModel):
    tasks: list[tuple[int, str]]


@router.post("/storm/{manner}", status_code=202, response_model=None)
async def ask(
    manner: str, wanted: Wanted, tasks: BackgroundTasks
) -> dict[int, list[str]] | StreamingResponse:
    """Add the tasks that are wanted and answer with the ids of each, in the manner that is wanted."""
    ids = {number: _add(tasks, number, fate) for number, fate in wanted.tasks}
    if manner == "refused":
        raise HTTPException(409)
    if manner == "streamed":
        return StreamingResponse(_slowly(ids), status_code=202)
    return ids


def _add(tasks: BackgroundTasks, number: int, fate: str) -> list[str]:
    match fate:
        case "piped":
            first, second = storm_actors.storm_first, storm_actors.storm_second
            handles = tasks.add_task(first.message(number) | second.message(number))
        case "grouped":
            member = storm_actors.storm_member
            together = dramatiq.group([member.message(number), member.message(number)])
            together.add_completion_callback(storm_actors.storm_complete.message(number))
            handles = tasks.add_task(together)
        case "later" | "recalled":
            delay = timedelta(hours=1) if fate == "recalled" else timedelta(milliseconds=500)
            actor = getattr(storm_actors, f"storm_{fate}")
            handles = [tasks.add_task_with_options(actor, args=(number,), delay=delay)]
        case _:
            handles = [tasks.add_task(getattr(storm_actors, f"storm_{fate}"), number)]
    return [handle.id for handle in handles]


async def _slowly(ids: dict[int, list[str]]) -> AsyncIterator[bytes]:
    yield json.dumps(ids).encode() + b"\n"
    await asyncio.sleep(1.5)
    yield b"that was all\n"


class Witness:
    """Notes when the last byte of a response has gone out, or its client was found to have gone."""

    def __init__(self, app) -> None:
        self.app = app

    async def __call__(self, scope, receive, send) -> None:
        request = dict(scope.get("headers", ())).get(b"x-request", b"").decode()

        async def sending(message) -> None:
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                storm_actors.note("sent", request, os.getpid())

        async def receiving():
            message = await receive()
            if message["type"] == "http.disconnect":
                storm_actors.note("gone", request, os.getpid())
            return message

        await self.app(scope, receiving if request else receive, sending if request else send)


_app = create_app()
_app.include_router(router)
app = Witness(_app)
