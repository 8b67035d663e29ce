"""FastAPI's BackgroundTasks with a ``def``, as in its documentation."""

from __future__ import annotations

from fastapi import BackgroundTasks, FastAPI

from benchmarks.endpoints.answer import ACCEPTED, ANSWER, PATH, Answer

app = FastAPI()


def note_run(number: int) -> None:
    """Do nothing."""
    del number


@app.post(PATH, status_code=ACCEPTED)
async def accept(number: int, tasks: BackgroundTasks) -> Answer:
    """Add a task that this process runs after its answer."""
    tasks.add_task(note_run, number)
    return ANSWER
