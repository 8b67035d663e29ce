"""A small shop whose orders lie beside the ledger, for the tests to shoot at: `uvicorn bound:app`.

Each order is committed together with a task of its name. Each kind of session has its own endpoints;
those that hold say so on standard output and then wait for what never comes.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from threading import Event

import dramatiq
from fastapi import FastAPI, HTTPException
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import postlude
from postlude import BackgroundTasks

engine = postlude.engine()
async_engine = postlude.async_engine()


class Base(DeclarativeBase):
    """Tables of the application's own."""


class Order(Base):
    """One order."""

    __tablename__ = "orders"

    name: Mapped[str] = mapped_column(primary_key=True)


@dramatiq.actor
def note_order(word: str) -> None:
    """Leave a trace of this run; fails if its order is not there."""
    with Session(engine) as session:
        session.scalars(select(Order).where(Order.name == word)).one()
    _trace(word)


@dramatiq.actor
def note_word(word: str) -> None:
    """Leave a trace of this run."""
    _trace(word)


app = FastAPI(on_startup=[lambda: Base.metadata.create_all(engine)])
postlude.install(app)


@app.post("/sync/{fate}/{word}")
def place(fate: str, word: str, tasks: BackgroundTasks) -> str:
    """Place an order, and let ``fate`` befall it."""
    with Session(engine) as session:
        session.scalars(select(Order).limit(3)).all()
        tasks.bind(session)
        session.add(Order(name=word))
        session.flush()
        handle = tasks.add_task(note_order, word)
        if fate == "open":
            _say_so()
            Event().wait()
        if fate == "undone":
            session.rollback()
        session.commit()
    if fate == "held":
        _say_so()
        Event().wait()
    if fate == "failed":
        raise HTTPException(418)
    return handle.id


@app.post("/async/{fate}/{word}")
async def place_async(fate: str, word: str, tasks: BackgroundTasks) -> str:
    """Do the same with an ``AsyncSession``."""
    async with AsyncSession(async_engine) as session:
        (await session.scalars(select(Order).limit(3))).all()
        tasks.bind(session)
        session.add(Order(name=word))
        await session.flush()
        handle = tasks.add_task(note_order, word)
        if fate == "open":
            _say_so()
            await asyncio.Event().wait()
        if fate == "undone":
            await session.rollback()
        await session.commit()
    if fate == "held":
        _say_so()
        await asyncio.Event().wait()
    if fate == "failed":
        raise HTTPException(418)
    return handle.id


@app.post("/unbound/{fate}/{word}")
def unbound(fate: str, word: str, tasks: BackgroundTasks) -> str:
    """Add a task that no session knows of."""
    return tasks.add_task(note_word, f"{word}-{fate}").id


@app.get("/orders")
def orders() -> list[str]:
    """Return the names of all orders."""
    with Session(engine) as session:
        return list(session.scalars(select(Order.name)))


def _trace(word: str) -> None:
    with Path("ran").open("a") as ran:
        ran.write(f"{word}\n")


def _say_so() -> None:
    sys.stdout.write("holding\n")
    sys.stdout.flush()
