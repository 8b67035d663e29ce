"""huey on an SQLite file, results stored."""

from __future__ import annotations

from huey import SqliteHuey

from benchmarks.contestants.place import FOLDER
from benchmarks.tally import ran

huey = SqliteHuey("bench", filename=str(FOLDER / "huey.sqlite"))


@huey.task()
def note_run(number: int) -> int:
    """Note this run."""
    ran(number)
    return number


send = note_run
