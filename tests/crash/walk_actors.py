"""The actors of the walk: each writes down in the witness's file what it did."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import dramatiq
from dramatiq.middleware import CurrentMessage
from fastapi import APIRouter, FastAPI, HTTPException
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import postlude
from postlude import BackgroundTasks

app = FastAPI()
postlude.install(app)


def folder() -> Path:
    return Path(os.environ["POSTLUDE_DATA_DIR"])


def witness(event: str, **facts: Any) -> None:
    """Write one line that survives this process; what was written was so."""
    line = json.dumps({"event": event, "at": time.monotonic_ns(), **facts}) + "\n"
    file = os.open(folder() / "witness", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(file, line.encode())
    os.close(file)


def ran() -> None:
    message = CurrentMessage.get_current_message()
    witness("ran", id=message.message_id, actor=message.actor_name)


@dramatiq.actor
def walk_fine(word: str) -> str:
    ran()
    return word


@dramatiq.actor(max_retries=5, min_backoff=1, max_backoff=1)
def walk_flaky(word: str) -> str:
    """Fail once, whoever tries."""
    ran()
    flag = folder() / f"flaky-{CurrentMessage.get_current_message().message_id}"
    if not flag.exists():
        flag.touch()
        message = f"{word}: not yet"
        raise ValueError(message)
    return word


@dramatiq.actor(max_retries=1, min_backoff=1, max_backoff=1)
def walk_hopeless(word: str) -> None:
    ran()
    raise ValueError(word)


@dramatiq.actor(max_retries=0)
def walk_slow(word: str) -> None:
    """Run until it is cancelled, or everything is over."""
    ran()
    witness("slow", word=word)
    while not (folder() / "over").exists():
        time.sleep(0.005)


@dramatiq.actor
def walk_told(message: dict[str, Any], news: Any) -> None:
    ran()
    witness("told", by=message["message_id"], news=news)


@postlude.every("1s")
@dramatiq.actor
def walk_ticked() -> None:
    ran()


@dramatiq.actor
def walk_add(x: int, y: int = 0) -> int:
    ran()
    return x + y


@dramatiq.actor
def walk_keyed() -> None:
    ran()


@dramatiq.actor
def walk_ordered(order: str) -> None:
    ran()


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    name: Mapped[str] = mapped_column(primary_key=True)


@app.post("/piped")
async def piped(tasks: BackgroundTasks) -> dict[str, list[str]]:
    """A pipeline, and a group of a pipeline and a task with a callback."""
    handles = tasks.add_task(walk_add.message(1) | walk_add.message(2) | walk_add.message(3))
    together = dramatiq.group([walk_add.message(4) | walk_add.message(5), walk_add.message(6)])
    together.add_completion_callback(walk_add.message(7))
    return {"ids": [handle.id for handle in handles + tasks.add_task(together)]}


@app.post("/unique")
async def unique(tasks: BackgroundTasks) -> dict[str, list[str]]:
    handle = tasks.add_task_with_options(walk_fine, args=("u",), unique_key="u", unique_for="1h")
    return {"ids": [handle.id]}


@app.post("/bound")
def bound(tasks: BackgroundTasks) -> dict[str, list[str]]:
    """An order and its task, in one transaction."""
    with Session(postlude.engine()) as session:
        tasks.bind(session)
        session.add(Order(name="one"))
        handle = tasks.add_task(walk_ordered, "one")
        session.commit()
    return {"ids": [handle.id]}


router = APIRouter(route_class=postlude.IdempotentRoute)


@router.post("/keyed")
async def keyed(tasks: BackgroundTasks) -> dict[str, list[str]]:
    return {"ids": [tasks.add_task(walk_keyed).id]}


app.include_router(router)


@app.post("/fine")
async def fine(tasks: BackgroundTasks) -> dict[str, list[str]]:
    first = tasks.add_task(walk_fine, "a")
    second = tasks.add_task_with_options(walk_fine, args=("b",), on_success="walk_told")
    return {"ids": [first.id, second.id]}


@app.post("/flaky")
def flaky(tasks: BackgroundTasks) -> dict[str, list[str]]:
    return {"ids": [tasks.add_task(walk_flaky, "f").id]}


@app.post("/refused")
async def refused(tasks: BackgroundTasks) -> None:
    handle = tasks.add_task(walk_fine, "never")
    witness("refused", id=handle.id)
    raise HTTPException(409)
