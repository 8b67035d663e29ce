"""``python -m scheduler``: real processes, killed, doubled and restarted over one ledger."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
from sqlalchemy import text

from postlude.ledger.clock import now
from postlude.ledger.ledger import Ledger
from postlude.ledger.migrate import upgrade
from postlude.ledger.transitions.bury import bury
from postlude.policy.crash import Death
from postlude.settings import load

ROOT = Path(__file__).parents[2]
SECOND = 1_000_000
MODULE = """
import dramatiq
from postlude import every

@every("1s", args=["one"])
@every("1s", id="tidy-too", args=["two"])
@every("2s", id="tidy-slowly", args=["three"])
@dramatiq.actor
def tidy(folder: str) -> None:
    pass
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "tidying.py").write_text(MODULE)
    return tmp_path


@pytest.fixture
def ledger(folder):
    settings = load(data_dir=folder / "var")
    upgrade(settings)
    ledger = Ledger(settings)
    yield ledger
    ledger.close()


@pytest.fixture
def start(folder):
    """Start a scheduler; whatever still runs at the end is killed."""
    started = []

    def start(**variables):
        environment = {k: v for k, v in os.environ.items() if not k.startswith("POSTLUDE_")} | {
            "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]),
            "POSTLUDE_DATA_DIR": str(folder / "var"),
            "POSTLUDE_ACTORS": "tidying",
            "POSTLUDE_LOG_FORMAT": "json",
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "scheduler"],
            cwd=ROOT,
            env=environment | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def stop(process, number=signal.SIGTERM):
    """Ask a scheduler to leave; returns how long that took and what it has logged."""
    began = time.monotonic()
    process.send_signal(number)
    output, _ = process.communicate(timeout=20)
    return time.monotonic() - began, output


def rows(ledger, statement, **parameters):
    with ledger.read() as connection:
        return connection.execute(text(statement), parameters).mappings().all()


def ticks(ledger, schedule="tidy"):
    return rows(
        ledger,
        "SELECT * FROM postlude_ticks WHERE schedule = :schedule ORDER BY scheduled_for",
        schedule=schedule,
    )


def until(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
    return answer


def until_ticked(ledger, count, schedule="tidy"):
    """Wait until that many more ticks are there."""
    before = len(ticks(ledger, schedule))
    until(lambda: len(ticks(ledger, schedule)) >= before + count)


def assert_no_tick_is_lost_or_doubled(ledger):
    tasks = rows(ledger, "SELECT id FROM postlude_tasks WHERE actor = 'tidy'")
    made = []
    for schedule, step in (("tidy", 1), ("tidy-too", 1), ("tidy-slowly", 2)):
        found = ticks(ledger, schedule)
        times = [tick["scheduled_for"] for tick in found]
        assert {later - earlier for earlier, later in pairwise(times)} <= {step * SECOND}
        made += [tick["task"] for tick in found if tick["outcome"] == "queued"]
    assert sorted(made) == sorted(task["id"] for task in tasks)
    assert len(made) == len(set(made))


def test_two_schedulers_of_which_one_is_killed_lose_and_double_nothing(ledger, start):
    first, second = start(), start()
    until_ticked(ledger, 3)

    first.kill()
    until_ticked(ledger, 2)
    third = start()
    until_ticked(ledger, 3)

    for process in (second, third):
        stop(process)
    assert_no_tick_is_lost_or_doubled(ledger)


def test_a_restart_makes_up_for_what_was_missed(ledger, start):
    only = start()
    until_ticked(ledger, 2)
    only.kill()
    only.wait()
    last = ticks(ledger)[-1]["scheduled_for"]
    until(lambda: time.time_ns() // 1000 > last + 3 * SECOND)

    again = start()
    until(lambda: ticks(ledger)[-1]["scheduled_for"] > last + 4 * SECOND)

    stop(again)
    assert_no_tick_is_lost_or_doubled(ledger)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_leaves_within_seconds_when_asked(ledger, start, number):
    process = start()
    until_ticked(ledger, 1)

    took, output = stop(process, number)

    assert process.returncode == 0, output
    assert took < 5
    assert '"schedule.ticked"' in output
    assert "Traceback" not in output
    (life,) = rows(ledger, "SELECT * FROM postlude_incarnations WHERE kind = 'scheduler'")
    assert life["ended_at"] is not None


def test_it_leaves_in_time_although_the_ledger_is_locked(ledger, start):
    process = start(POSTLUDE_WRITE_TIMEOUT="500ms")
    until_ticked(ledger, 1)

    with contextlib.closing(ledger.connect()) as blocker:
        blocker.begin()
        took, output = stop(process)

    assert took < 8
    assert "Traceback" not in output


def test_one_that_was_declared_dead_begins_a_new_life(ledger, start):
    process = start()
    until_ticked(ledger, 1)
    lives = "SELECT id FROM postlude_incarnations WHERE kind = 'scheduler' AND ended_at IS NULL"
    (first,) = rows(ledger, lives)

    ledger.write(partial(bury, incarnation=first["id"], now=now(), death=Death.STOPPED))
    (second,) = until(lambda: rows(ledger, lives))
    until_ticked(ledger, 2)

    _, output = stop(process)
    assert second["id"] != first["id"]
    assert "scheduler.born_again" in output
    assert process.returncode == 0
    assert_no_tick_is_lost_or_doubled(ledger)


def test_a_schedule_whose_module_is_gone_stays_and_goes_on_when_it_is_back(ledger, start):
    process = start()
    until_ticked(ledger, 1)
    stop(process)
    (before,) = rows(ledger, "SELECT * FROM postlude_schedules WHERE id = 'tidy'")

    without = start(POSTLUDE_ACTORS="")
    until(lambda: rows(ledger, "SELECT * FROM postlude_schedules WHERE next_at IS NULL"))
    _, output = stop(without)
    back = start()
    until_ticked(ledger, 1)
    stop(back)

    (after,) = rows(ledger, "SELECT * FROM postlude_schedules WHERE id = 'tidy'")
    assert "schedule.retired" in output
    assert after["incarnation"] == before["incarnation"]
    assert after["created_at"] == before["created_at"]


def test_without_a_migrated_ledger_it_says_what_to_do(folder, start):
    process = start()

    output, _ = process.communicate(timeout=30)

    assert process.returncode == 2
    assert "postlude migrate" in output
    assert "Traceback" not in output


def test_a_bad_declaration_is_named(folder, ledger, start):
    (folder / "tidying.py").write_text(MODULE.replace('"2s"', '"now and then"'))

    process = start()

    output, _ = process.communicate(timeout=30)
    assert process.returncode == 2
    assert "actor 'tidy'" in output
    assert "'now and then' is not a duration" in output
