"""The actors that the conformance suite runs, in real workers, over each broker."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from uuid import UUID

import dramatiq
from dramatiq.middleware import CurrentMessage, Middleware
from pydantic import BaseModel

import postlude

QUEUE = os.environ["FLEET_QUEUE"]
OTHER_QUEUE = f"{QUEUE}-other"
JOURNAL = Path(os.environ["FLEET_JOURNAL"])


class Colour(StrEnum):
    RED = "red"


@dataclass(frozen=True)
class Point:
    x: int
    y: int


class Order(BaseModel):
    number: int
    at: datetime


class BrokenHook(Middleware):
    """Breaks before one actor, as a bug in somebody's own middleware would."""

    def before_process_message(self, broker, message):
        if message.actor_name == "behind_a_broken_hook":
            message = "this hook is broken"
            raise OSError(message)


postlude.broker.broker().add_middleware(BrokenHook())


def note(word: str) -> None:
    """Append a word to the journal; one write, so that processes do not mix theirs."""
    with JOURNAL.open("a") as file:
        file.write(f"{word}\n")


def wait_for(name: str) -> None:
    """Wait until the test makes the file ``name`` beside the journal."""
    while not JOURNAL.with_name(name).exists():
        time.sleep(0.01)


@dramatiq.actor(queue_name=QUEUE)
def add(x: int, y: int = 2) -> int:
    return x + y


@dramatiq.actor(queue_name=QUEUE)
async def add_async(x: int, y: int) -> int:
    return x + y


@dramatiq.actor(queue_name=QUEUE)
def describe(  # noqa: PLR0917
    at: datetime,
    span: timedelta,
    key: UUID,
    price: Decimal,
    colour: Colour,
    point: Point,
    order: Order,
) -> list[str]:
    values = (at, span, key, price, colour, point, order)
    return [type(value).__name__ for value in values]


@dramatiq.actor(queue_name=QUEUE)
def jot(word: str) -> None:
    note(word)


@dramatiq.actor(queue_name=QUEUE, max_retries=2, min_backoff=1, max_backoff=5)
def fail_always(word: str) -> None:
    note(word)
    message = f"{word} failed"
    raise ValueError(message)


@dramatiq.actor(queue_name=QUEUE, max_retries=5, throws=ValueError)
def throw() -> None:
    message = "never retried"
    raise ValueError(message)


@dramatiq.actor(queue_name=QUEUE, retry_when=lambda retries, _error: retries < 1, min_backoff=1)
def fail_once_more() -> None:
    note("once more")
    message = "no"
    raise ValueError(message)


@dramatiq.actor(queue_name=QUEUE, max_retries=1)
def come_back(delay: int) -> None:
    note("came")
    message = "later"
    raise dramatiq.Retry(message, delay=delay)


@dramatiq.actor(queue_name=QUEUE)
def told(message: dict, news: object) -> None:
    note(f"told {message['actor_name']} {news}")


@dramatiq.actor(queue_name=QUEUE, max_retries=0, on_retry_exhausted="told")
def exhaust() -> None:
    raise ValueError


@dramatiq.actor(queue_name=QUEUE, time_limit=200, max_retries=0)
def overrun() -> None:
    while True:
        time.sleep(0.01)


@dramatiq.actor(queue_name=QUEUE)
def hold(word: str) -> str:
    """Note the word, wait for the file of that name, return."""
    note(word)
    wait_for(word)
    return word


@dramatiq.actor(queue_name=QUEUE)
def hold_with_progress(word: str) -> None:
    postlude.set_progress({"done": 1, "of": 2})
    note(word)
    wait_for(word)


@dramatiq.actor(queue_name=QUEUE, notify_shutdown=True)
def hold_until_told(word: str) -> None:
    note(word)
    wait_for(word)
    note(f"{word} done")


@dramatiq.actor(queue_name=QUEUE)
def die() -> None:
    note("dying")
    os.kill(os.getpid(), signal.SIGKILL)


@dramatiq.actor(queue_name=QUEUE)
def send_on(word: str) -> str:
    return jot.send(word).message_id


@dramatiq.actor(queue_name=QUEUE)
def whoami() -> str:
    return CurrentMessage.get_current_message().message_id


@dramatiq.actor(queue_name=QUEUE, max_retries=0)
def behind_a_broken_hook() -> None:
    note("ran in spite of it")


@dramatiq.actor(queue_name=OTHER_QUEUE)
def in_another_queue() -> None:
    note("elsewhere")
