"""The clock is set by an hour, both ways, under the whole application: nobody dies, nothing is lost.

The tests share one application, which takes its time to start under such a clock; each goes on from where
the clock is. libfaketime sets CLOCK_REALTIME alone, as an operator or NTP would; the monotonic clock goes on.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path

import pytest
from installation import Site
from sqlalchemy import text

from postlude.ledger.engine import build_engine, reading
from postlude.settings import load

HERE = Path(__file__).parent
HOUR = 3600
BEATS = 12
"""Heartbeats after a step: more than the lease."""
ONCE = """
    SELECT count(task) AS ticks, count(DISTINCT task) AS distinct_ticks,
        (SELECT count(*) FROM postlude_tasks WHERE actor = 'clock-tick') AS tasks,
        (SELECT max(attempts) FROM postlude_tasks WHERE actor = 'clock-tick') AS attempts
    FROM postlude_ticks WHERE schedule = 'clock-tick'"""
TICKS = """
    SELECT scheduled_for FROM postlude_ticks WHERE schedule = 'clock-tick' ORDER BY scheduled_for"""
SLEEP = """
# libfaketime 0.9.10 does not understand clock_nanosleep with an absolute time, which time.sleep uses.
import select, time
time.sleep = lambda seconds: select.select([], [], [], seconds) and None
"""


class Clocked:
    """The application under a clock that the test sets; ``site`` is where it runs."""

    def __init__(self, site, folder, library):
        self.site = site
        self.folder = folder
        self._clock = folder / "clock"
        self._now = self._base = self._ticked = 0
        self.set(0)
        (folder / "sitecustomize.py").write_text(SLEEP)
        site.environment |= {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._clock),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
            "PYTHONPATH": f"{folder}{os.pathsep}{HERE}",
        }
        site.migrate()
        self._run = site.start("postlude.cli", "run")
        site.until(lambda: site.is_ready() and site.told("worker.ready"))
        self._engine = build_engine(load(data_dir=site.data))

    def begin(self):
        """Begin a test: what others have left is not of its concern."""
        self._base = self._now
        for name in ("journal", "held"):
            (self.folder / name).unlink(missing_ok=True)
        self._ticked += len(self.ticks())

    def set(self, seconds):
        """Set the clock to so many seconds from where it was as the test began, for all at once."""
        self._now = self._base + seconds
        new = self.folder / "clock.new"
        new.write_text(f"{self._now:+d}s\n")
        new.replace(self._clock)

    def add(self, actor, word, **options):
        body = {"args": {"word": word}, "options": options}
        answer = self.site.web.post(f"/v1/actors/clock-{actor}/tasks", json=body)
        assert answer.status_code == 202, answer.text
        return answer.json()["url"]

    def state(self, url):
        task = self.site.task(url)
        return task["state"], task["reason"]

    def reaches(self, url, *wanted):
        self.site.until(lambda: self.state(url) == wanted)

    def journal(self):
        path = self.folder / "journal"
        return Counter(path.read_text().split()) if path.exists() else Counter()

    def rows(self, query):
        with reading(self._engine) as connection:
            return connection.execute(text(query)).all()

    def lives(self):
        """Return who lives: the ids, with the heartbeats."""
        living = "SELECT id, heartbeat FROM postlude_incarnations WHERE ended_at IS NULL"
        return {row.id: row.heartbeat for row in self.rows(living)}

    def everybody_lives_on(self):
        """Return when all who live now have beaten for longer than the lease."""
        before = self.lives()
        self.site.until(
            lambda: all(beat >= before.get(id_, 0) + BEATS for id_, beat in self.lives().items())
        )
        assert self.lives().keys() == before.keys()
        log = self.site.log.read_text()
        assert re.findall("reaper.buried|role.hangs|role.killed|born_again|chore.failed", log) == []

    def ticks(self):
        """Return those of this test, and what comes before them was there when it began."""
        return self.rows(TICKS)[self._ticked :]

    def no_tick_ran_twice(self):
        (seen,) = self.rows(ONCE)
        assert seen.tasks == seen.ticks == seen.distinct_ticks > 0
        assert seen.attempts <= 1

    def close(self):
        self._engine.dispose()
        self.site.close()


@pytest.fixture(scope="module")
def application(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clocked")
    found = [*Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")]
    if not found:
        hint = "no libfaketime; get it with: apt-get install faketime"
        if os.environ.get("REQUIRE_SERVICES"):
            pytest.fail(hint)
        pytest.skip(hint)
    made = Clocked(
        Site(
            folder,
            POSTLUDE_ACTORS="clock_actors",
            POSTLUDE_HEARTBEAT="300ms",
            POSTLUDE_LEASE="3s",
            POSTLUDE_WORKERS="2",
            POSTLUDE_LOG_FORMAT="json",
            CLOCK_FOLDER=str(folder),
        ),
        folder,
        found[0],
    )
    yield made
    made.close()


@pytest.fixture
def clocked(application):
    application.begin()
    return application


def test_an_hour_ahead(clocked):
    """What waits for a time is due now; ages and periods are an hour longer."""
    held = clocked.add("hold", "held")
    late = clocked.add("jot", "late", delay="50m")
    first = clocked.add("jot", "first", unique_key="k", unique_for="30m")
    aged = clocked.add("jot", "aged", delay="1s", max_age="30m")
    clocked.reaches(held, "running", None)
    clocked.reaches(first, "succeeded", None)
    clocked.reaches(aged, "succeeded", None)
    old = clocked.add("jot", "old", delay="50m", max_age="30m")
    clocked.site.until(lambda: len(clocked.ticks()) >= 2)
    retried = clocked.add("stumble", "stumbled")
    clocked.reaches(retried, "scheduled", None)

    clocked.set(HOUR)

    for url in (late, retried, clocked.add("jot", "new"), clocked.add("jot", "k", unique_key="k")):
        clocked.reaches(url, "succeeded", None)
    clocked.reaches(old, "failed", "expired")
    clocked.everybody_lives_on()
    before = len(clocked.ticks())
    clocked.site.until(lambda: len(clocked.ticks()) >= before + 2)
    clocked.no_tick_ran_twice()
    clocked.reaches(held, "running", None)
    (clocked.folder / "held").touch()
    task = clocked.site.ended(held)
    assert (task["state"], task["attempt_count"], task["crashes"]) == ("succeeded", 1, 0)
    words = {"held": 1, "late": 1, "stumbled": 2, "first": 1, "aged": 1, "new": 1, "k": 1}
    assert clocked.journal() == words


def test_an_hour_back_and_forth_again(clocked):
    """What has no time to wait for runs; what has waits until the clock shows it, and no longer."""
    held = clocked.add("hold", "held")
    first = clocked.add("jot", "first", unique_key="l", unique_for="5s")
    clocked.reaches(held, "running", None)
    clocked.reaches(first, "succeeded", None)
    clocked.site.until(lambda: len(clocked.ticks()) >= 2)
    late = clocked.add("jot", "late", delay="3s")
    retried = clocked.add("stumble", "stumbled")
    clocked.reaches(retried, "scheduled", None)

    clocked.set(-HOUR)

    after = [clocked.add("jot", "new", max_age="1m"), clocked.add("jot", "soon", delay="1s")]
    for url in after:
        clocked.reaches(url, "succeeded", None)
    second = clocked.add("jot", "second", unique_key="l", unique_for="5s")
    clocked.reaches(second, "cancelled", "duplicate")
    ticked = clocked.ticks()
    clocked.everybody_lives_on()
    assert clocked.state(retried) == ("scheduled", None)
    assert clocked.ticks() == ticked

    clocked.set(0)

    for url in (late, retried):
        clocked.reaches(url, "succeeded", None)
    clocked.site.until(lambda: len(clocked.ticks()) >= len(ticked) + 2)
    clocked.everybody_lives_on()
    clocked.no_tick_ran_twice()
    (clocked.folder / "held").touch()
    task = clocked.site.ended(held)
    assert (task["state"], task["attempt_count"], task["crashes"]) == ("succeeded", 1, 0)
    words = {"held": 1, "late": 1, "first": 1, "stumbled": 2, "new": 1, "soon": 1}
    assert clocked.journal() == words
