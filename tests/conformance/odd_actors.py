"""Actors whose tasks carry what no ledger can hold, or are called with what cannot be read."""

from __future__ import annotations

import logging
import os
import threading
from uuid import UUID

import dramatiq
import structlog
from dramatiq.middleware import Middleware
from fleet_actors import QUEUE, note, told
from pydantic import BaseModel, field_validator

from postlude.broker import broker

NO_TEXT = os.fsdecode(b"half \xff")
"""What Python makes of a file name that is not UTF-8; as text nobody can store it."""


class Picky(BaseModel):
    number: int

    @field_validator("number")
    @classmethod
    def known(cls, number: int) -> int:
        """Break for 13 where the workers of this test are: they read in threads of their own."""
        if number == 13 and threading.current_thread() is not threading.main_thread():
            raise LookupError(number)
        return number


class OddError(Exception):
    pass


OddError.__qualname__ = f"OddError.{NO_TEXT}"


class SendsOdd(Middleware):
    """Sends, when an actor has ended, to a queue whose name cannot be stored."""

    def after_process_message(self, broker, message, *, result=None, exception=None):
        del result, exception
        if message.actor_name == "send_what_cannot_be_stored":
            broker.declare_queue(NO_TEXT)
            broker.enqueue(told.message({}, None).copy(queue_name=NO_TEXT))


broker().add_middleware(SendsOdd())


@dramatiq.actor(queue_name=QUEUE)
def log_of_a_file() -> None:
    note("logged")
    logging.addLevelName(25, NO_TEXT)
    logging.getLogger(f"files.{NO_TEXT}").log(25, "read it")


@dramatiq.actor(queue_name=QUEUE, max_retries=0, on_failure="told")
def fail_with_an_id() -> None:
    note("failed")
    structlog.contextvars.bind_contextvars(correlation_id=UUID(int=7))
    raise ValueError


@dramatiq.actor(queue_name=QUEUE, max_retries=0, on_failure="hear")
def fail_about_a_file() -> None:
    message = f"no such file: {NO_TEXT}"
    raise ValueError(message)


@dramatiq.actor(queue_name=QUEUE)
def hear(message: dict, news: dict[str, str]) -> None:
    note(f"{message['actor_name']}: {news['message']}")


@dramatiq.actor(queue_name=QUEUE, max_retries=0)
def raise_odd() -> None:
    note("odd")
    raise OddError


@dramatiq.actor(queue_name=QUEUE)
def send_what_cannot_be_stored() -> int:
    note("sent")
    return 5


@dramatiq.actor(queue_name=QUEUE)
def read(picky: Picky) -> None:
    note(f"read {picky.number}")


@dramatiq.actor(queue_name=QUEUE)
def bind_a_tenant() -> None:
    structlog.contextvars.bind_contextvars(tenant="ada")
    note("bound")


@dramatiq.actor(queue_name=QUEUE)
def tell_the_tenant() -> None:
    note(f"tenant {structlog.contextvars.get_contextvars().get('tenant')}")
