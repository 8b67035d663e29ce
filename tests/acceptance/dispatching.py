"""A small app and its actor, for the tests to shoot at: `uvicorn dispatching:app`, `dramatiq dispatching`.

Each run of the actor appends a line to the file ``ran`` in the working folder. Endpoints that hold
say so on standard output and then wait for a line that never comes.
"""

from __future__ import annotations

import sys
from pathlib import Path
from threading import Event

import dramatiq
from fastapi import FastAPI, HTTPException
from fastapi.responses import StreamingResponse

import postlude
from postlude import BackgroundTasks

app = FastAPI()
postlude.install(app)


@dramatiq.actor
def note(word: str) -> None:
    """Leave a trace of this run."""
    with Path("ran").open("a") as ran:
        ran.write(f"{word}\n")


@app.post("/good/{word}")
def good(word: str, tasks: BackgroundTasks) -> str:
    """Add a task and answer with its id."""
    return tasks.add_task(note, word).id


@app.post("/bad/{word}")
def bad(word: str, tasks: BackgroundTasks) -> None:
    """Add a task, then fail."""
    tasks.add_task(note, word)
    raise HTTPException(418)


@app.post("/hold/{word}")
def hold(word: str, tasks: BackgroundTasks) -> None:
    """Add a task and never answer."""
    tasks.add_task(note, word)
    _hold()


@app.post("/stream/{word}")
def stream(word: str, tasks: BackgroundTasks) -> StreamingResponse:
    """Add a task, start to answer, and never end."""
    tasks.add_task(note, word)
    return StreamingResponse(_endless())


@app.post("/composed/{word}")
def composed(word: str, tasks: BackgroundTasks) -> StreamingResponse:
    """Add a group of two, one of them a pipeline, and a callback; start to answer, never end."""
    then = note.message_with_options(args=(f"{word}-then",), pipe_ignore=True)
    together = dramatiq.group([note.message(word) | then, note.message(f"{word}-beside")])
    together.add_completion_callback(note.message(f"{word}-complete"))
    tasks.add_task(together)
    return StreamingResponse(_endless())


def _endless():
    yield b"started\n"
    _hold()


def _hold() -> None:
    sys.stdout.write("holding\n")
    sys.stdout.flush()
    Event().wait()
