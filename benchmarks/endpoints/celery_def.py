"""Celery's .delay() in a ``def`` endpoint, where FastAPI's documentation puts calls that block."""

from __future__ import annotations

from fastapi import FastAPI

from benchmarks.contestants.celery_rabbitmq import send
from benchmarks.endpoints.answer import ACCEPTED, ANSWER, PATH, Answer

app = FastAPI()


@app.post(PATH, status_code=ACCEPTED)
def accept(number: int) -> Answer:
    """Publish a task and answer."""
    send(number)
    return ANSWER
