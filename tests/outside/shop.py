"""A shop: the FastAPI app of somebody who has installed Postlude, and has nothing else of it."""

import asyncio
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import dramatiq
from fastapi import Depends, FastAPI, HTTPException
from pydantic import BaseModel, EmailStr, Field

import postlude
from postlude import BackgroundTasks, TaskHandle
from postlude.errors import UnknownTask

BOOKS = Path(os.environ.get("SHOP_BOOKS", "books"))

app = FastAPI(title="Shop")
postlude.install(app)


class Order(BaseModel):
    number: int = Field(ge=1)
    email: EmailStr
    placed_at: datetime = Field(default_factory=lambda: datetime.now(UTC))


class BankClosed(Exception):
    """Try again later."""


def note(words: str) -> None:
    """Write a line into the book."""
    BOOKS.mkdir(exist_ok=True)
    with (BOOKS / "book").open("a") as book:
        book.write(f"{words}\n")


@dramatiq.actor(max_retries=10, min_backoff=50, max_backoff=100)
def charge(order: Order) -> str:
    """Charge the customer. May run twice: yes, the bank knows a charge by its order."""
    if (BOOKS / "bank is closed").exists():
        note(f"bank closed for {order.number}")
        raise BankClosed
    note(f"charged {order.number} of {order.placed_at:%Y}")
    return f"{order.email} has paid"


@dramatiq.actor
async def pack(number: int) -> None:
    """Pack the goods, once there is a box. May run twice: yes, the box is then packed already."""
    note(f"packing {number}")
    while (BOOKS / "no boxes").exists():  # noqa: ASYNC110 # somebody else's shop
        await asyncio.sleep(0.02)
    note(f"packed {number}")


@postlude.cron("0 3 * * *", timezone="Europe/Berlin")
@dramatiq.actor
def close_the_books(day: str = "yesterday") -> str:
    """Add it all up. May run twice: yes, it changes nothing."""
    return f"{day}: {len((BOOKS / 'book').read_text().splitlines())} lines"


@postlude.every("10m")
@dramatiq.actor
def water_the_plants() -> None:
    """Water them. May run twice: yes, plants like it."""
    note("watered")


def ring_the_bell() -> None:
    """Do what may be lost: a plain function, which runs in the app's process."""
    note("ding")


def watched(tasks: BackgroundTasks) -> None:
    """Have the plants watered whenever somebody comes."""
    tasks.add_task(water_the_plants)


@app.post("/orders", status_code=202, dependencies=[Depends(watched)])
async def place(order: Order, tasks: BackgroundTasks) -> dict[str, str]:
    tasks.add_task(ring_the_bell)
    charged = tasks.add_task(charge, order)
    packed = tasks.add_task(pack, order.number)
    return {"charge": charged.id, "pack": packed.id}


@app.post("/orders/refused", dependencies=[Depends(watched)])
def refuse(order: Order, tasks: BackgroundTasks) -> None:
    tasks.add_task(charge, order)
    raise HTTPException(409, "sold out")


def known(task_id: str) -> TaskHandle:
    handle = TaskHandle(task_id)
    try:
        handle.state()
    except UnknownTask:
        raise HTTPException(404) from None
    return handle


@app.get("/tasks/{task_id}")
def look(handle: Annotated[TaskHandle, Depends(known)]) -> dict[str, str | None]:
    state = handle.state()
    return {"state": state, "result": handle.get_result() if state == "succeeded" else None}
