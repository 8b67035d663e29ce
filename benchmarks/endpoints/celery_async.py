"""Celery's .delay() in an ``async def`` endpoint: faster, until RabbitMQ is slow and every request waits."""

from __future__ import annotations

from fastapi import FastAPI

from benchmarks.contestants.celery_rabbitmq import send
from benchmarks.endpoints.answer import ACCEPTED, ANSWER, PATH, Answer

app = FastAPI()


@app.post(PATH, status_code=ACCEPTED)
async def accept(number: int) -> Answer:
    """Publish a task, blocking the loop meanwhile, and answer."""
    send(number)
    return ANSWER
