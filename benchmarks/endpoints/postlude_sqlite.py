"""Postlude, embedded: the same endpoint with Postlude's BackgroundTasks."""

from __future__ import annotations

from fastapi import FastAPI

import postlude
from benchmarks.contestants.postlude_sqlite import note_run
from benchmarks.endpoints.answer import ACCEPTED, ANSWER, PATH, Answer
from postlude import BackgroundTasks

app = FastAPI()
postlude.install(app)


@app.post(PATH, status_code=ACCEPTED)
async def accept(number: int, tasks: BackgroundTasks) -> Answer:
    """Add a task; it is on disk before the answer goes out."""
    tasks.add_task(note_run, number)
    return ANSWER
