"""The limit: an endpoint that adds no task."""

from __future__ import annotations

from fastapi import FastAPI

from benchmarks.endpoints.answer import ACCEPTED, ANSWER, PATH, Answer

app = FastAPI()


@app.post(PATH, status_code=ACCEPTED)
async def accept(number: int) -> Answer:
    """Answer."""
    del number
    return ANSWER
