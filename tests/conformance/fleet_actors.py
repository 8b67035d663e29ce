"""The actors that the conformance suite runs, in real workers, over each broker."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from uuid import UUID

import dramatiq
import structlog
from dramatiq.middleware import CurrentMessage, Middleware
from dramatiq.threading import raise_thread_exception
from dramatiq.worker import _WorkerThread as WorkerThread
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

    def after_process_message(self, broker, message, *, result=None, exception=None):
        if message.actor_name == "before_a_deadly_hook":
            raise SystemExit


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
def hold_and_tidy_up(word: str) -> None:
    try:
        note(word)
        wait_for(word)
    except postlude.Cancelled:
        note(f"{word} tidied up")
        raise


@dramatiq.actor(queue_name=QUEUE)
def hold_and_break(word: str) -> None:
    try:
        note(word)
        wait_for(word)
    finally:
        message = "broken while tidying up"
        raise OSError(message)


@dramatiq.actor(queue_name=QUEUE)
async def hold_async(word: str) -> None:
    note(word)
    await asyncio.sleep(3600)


@dramatiq.actor(queue_name=QUEUE)
def hold_in_c(word: str, seconds: float) -> None:
    """Cannot be interrupted: no bytecode runs before the sleep is over."""
    note(word)
    try:
        time.sleep(seconds)
    finally:
        note(f"{word} left")


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


@dramatiq.actor(queue_name=QUEUE, max_retries=0)
def talk(words: list[str], *, fail: bool = False) -> None:
    for word in words:
        logging.getLogger("fleet.talk").info("said %s", word)
    structlog.get_logger().warning("talk.over", words=len(words))
    if fail:
        try:
            raise_deeply(words[0])
        except ValueError:
            logging.getLogger("fleet.talk").exception("it broke")
            raise


def raise_deeply(word: str) -> None:
    message = f"no such word: {word}"
    raise ValueError(message)


@dramatiq.actor(queue_name=QUEUE, max_retries=0)
async def talk_async(word: str) -> None:
    logging.getLogger("fleet.talk").info("async %s", word)
    await asyncio.to_thread(logging.getLogger("fleet.talk").info, "thread %s", word)


@dramatiq.actor(queue_name=QUEUE, max_retries=0)
def shout(lines: int) -> None:
    for number in range(lines):
        logging.getLogger("fleet.shout").info("line %d %s", number, "x" * 1000)


@dramatiq.actor(queue_name=QUEUE, max_retries=0)
def total(*numbers: int) -> int:
    return sum(numbers)


@dramatiq.actor(queue_name=QUEUE, store_results=False)
async def count_up(x: int) -> int:
    note(f"up {x}")
    return x + 1


@dramatiq.actor(queue_name=QUEUE)
def hold_then_return(word: str, x: int) -> int:
    """Note the word, wait for the file of that name, return the number."""
    note(word)
    wait_for(word)
    return x


@dramatiq.actor(queue_name=QUEUE)
def run_pipeline(x: int) -> str:
    return (count_up.message(x) | count_up.message()).run().messages[-1].message_id


@dramatiq.actor(queue_name=QUEUE, on_failure="told")
def die_and_tell() -> None:
    note("dying")
    os.kill(os.getpid(), signal.SIGKILL)


class SlowLog(logging.Filter):
    """Takes its time over one actor's exception, as a blocked terminal would."""

    def filter(self, record: logging.LogRecord) -> bool:
        if "fail_slowly" in record.getMessage():
            note("logging")
            wait_for("logged")
        return True


logging.getLogger("dramatiq.worker.WorkerThread").addFilter(SlowLog())


@dramatiq.actor(queue_name=QUEUE, max_retries=1, min_backoff=1, max_backoff=1)
def fail_slowly() -> None:
    raise ValueError


@dramatiq.actor(queue_name=QUEUE)
def before_a_deadly_hook() -> str:
    return "done"


@dramatiq.actor(queue_name=QUEUE)
def end_sibling() -> None:
    """Strike the other, idle worker threads dead, as an interrupt at the wrong moment would."""
    for thread in threading.enumerate():
        if isinstance(thread, WorkerThread) and thread is not threading.current_thread():
            raise_thread_exception(thread.ident, SystemExit)


hoarded: list[bytes] = []


@dramatiq.actor(queue_name=QUEUE)
def hoard(size: int) -> None:
    """Leak so many bytes."""
    hoarded.append(b"x" * size)


@dramatiq.actor(queue_name=QUEUE)
def swell(word: str, size: int, *, fail: bool = False) -> str:
    """Do work that cannot be undone, log a lot, then return a lot."""
    note(word)
    for _ in range(10):
        logging.getLogger("fleet.swell").info("y" * 6000)
    if fail:
        message = "swollen"
        raise dramatiq.Retry(message, delay=1)
    return "x" * size


@dramatiq.actor(queue_name=QUEUE)
def hold_and_send(word: str) -> None:
    note(word)
    wait_for(word)
    jot.send(word)
