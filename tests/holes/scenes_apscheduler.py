"""Holes of APScheduler 3: ``python scenes_apscheduler.py SCENARIO FOLDER`` prints what was observed."""

from __future__ import annotations

import json
import sqlite3
import sys
import threading
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from apscheduler.events import EVENT_JOB_MISSED
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.cron import CronTrigger

PATIENCE_S = 20
FIRED = []


def note(word="fired"):
    FIRED.append(word)


class Store(SQLAlchemyJobStore):
    """APScheduler's own store, in a file, impatient."""

    def __init__(self, folder) -> None:
        options = {"connect_args": {"timeout": 0.1, "check_same_thread": False}}
        super().__init__(url=f"sqlite:///{folder}/jobs.db", engine_options=options)


class TogetherStore(Store):
    """Two schedulers' stores, of which each looks what is due before the other has gone on."""

    look = threading.Barrier(2)

    def get_due_jobs(self, now):
        found = super().get_due_jobs(now)
        if found:
            self.look.wait(PATIENCE_S)
        return found


def scheduler(store):
    return BackgroundScheduler(jobstores={"default": store}, timezone=UTC)


def until(condition):
    deadline = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)
    return found


def rows(folder):
    with closing(sqlite3.connect(folder / "jobs.db")) as connection:
        return connection.execute("SELECT count(*) FROM apscheduler_jobs").fetchone()[0]


def the_job_store_is_locked(folder):
    """For a moment, by a backup, say; readers are let in."""
    with closing(sqlite3.connect(folder / "jobs.db")) as other:
        other.execute("PRAGMA journal_mode=WAL")
        service = scheduler(Store(folder))
        service.add_job(note, "interval", seconds=0.1, id="job")
        service.start()
        until(lambda: FIRED)
        other.execute("BEGIN IMMEDIATE")
        until(lambda: not service._thread.is_alive())
        other.rollback()
    fired = len(FIRED)
    time.sleep(0.5)
    return {"says_it_runs": service.running, "fires": len(FIRED) > fired}


def the_module_of_a_job_is_gone(folder):
    """For the time of a deploy, in which the code of yesterday reads the jobs of tomorrow."""
    (folder / "tomorrow.py").write_text("def job():\n    pass\n")
    sys.path.insert(0, str(folder))
    service = scheduler(Store(folder))
    service.start(paused=True)
    service.add_job("tomorrow:job", "interval", seconds=1, id="job")
    before = rows(folder)
    service.shutdown()
    del sys.modules["tomorrow"]
    (folder / "tomorrow.py").unlink()
    yesterday = scheduler(Store(folder))
    yesterday.start(paused=True)
    yesterday.get_jobs()
    return {"before": before, "after": rows(folder)}


def the_scheduler_is_late(folder):
    """Two seconds, which a restart takes."""
    missed = threading.Event()
    service = scheduler(Store(folder))
    service.add_listener(lambda _event: missed.set(), EVENT_JOB_MISSED)
    service.add_job(note, "date", run_date=datetime.now(UTC) - timedelta(seconds=2), id="job")
    service.start()
    missed.wait(PATIENCE_S)
    until(lambda: not rows(folder))
    return {"fired": len(FIRED), "left": rows(folder)}


def the_clocks_are_set_back(_folder):
    """At 3 on 25 October 2026, in Berlin; the job is for half past two."""
    berlin = ZoneInfo("Europe/Berlin")
    trigger = CronTrigger(hour=2, minute=30, timezone=berlin)
    evening, fires = datetime(2026, 10, 24, 20, tzinfo=berlin), []
    at = trigger.get_next_fire_time(None, evening)
    while at.astimezone(UTC) < datetime(2026, 10, 25, 12, tzinfo=UTC):
        fires.append(at)
        at = trigger.get_next_fire_time(at, at)
    return {"fires": len(fires)}


def a_line_of_a_crontab_names_a_weekday(_folder):
    """Cron's day 0 is Sunday."""
    trigger = CronTrigger.from_crontab("0 3 * * 0", timezone=UTC)
    return {"day": f"{trigger.get_next_fire_time(None, datetime(2026, 11, 24, tzinfo=UTC)):%A}"}


def the_same_job_is_deployed_again(folder):
    """An interval of a day; the deploy comes twice."""
    times = []
    for _ in range(2):
        service = scheduler(Store(folder))
        service.start(paused=True)
        service.add_job(note, "interval", days=1, id="job", replace_existing=True)
        times.append(service.get_job("job").next_run_time)
        service.shutdown()
    return {"begins_anew": times[1] > times[0]}


def two_schedulers_share_a_store(folder):
    """Both find the one job that is due, and its only run."""
    Store(folder).start(None, "default")
    services = [scheduler(TogetherStore(folder)) for _ in range(2)]
    services[0].add_job(
        note, "date", run_date=datetime.now(UTC), id="job", misfire_grace_time=PATIENCE_S
    )
    for service in services:
        service.start()
    until(lambda: not all(service._thread.is_alive() for service in services))
    until(lambda: len(FIRED) > 1)
    return {
        "fired": len(FIRED),
        "say_they_run": [service.running for service in services],
        "dead": sum(not service._thread.is_alive() for service in services),
    }


if __name__ == "__main__":
    _, name, place = sys.argv
    print(json.dumps(vars()[name](Path(place))))  # noqa: T201 - the result
