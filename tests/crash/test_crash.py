"""Crash at every step: whatever was promised before a kill -9 is kept after the next start.

The steps are found by walking the life of tasks once (:mod:`steps`), so a statement that somebody
adds tomorrow is died at tomorrow. One in a few is tried by default, all of them with LONG=1.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
LANES = 3
"""Lives are mostly waiting; more lanes than processors do no harm."""
ENOUGH = 200
"""Points that there must be, however the code changes: fewer, and the walk has lost its way."""


def conduct(folder: Path, *arguments: str, points: list[dict] = ()) -> list:
    """Run a conductor in a process of its own; returns what it prints, line by line."""
    done = subprocess.run(
        [sys.executable, HERE / "conductor.py", folder, *arguments],
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}"},
        input="".join(json.dumps(point) + "\n" for point in points),
        capture_output=True,
        text=True,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("crash")


@pytest.fixture(scope="module")
def points(folder):
    """Every point to die at that a life comes by."""
    [found] = conduct(folder, "dry")
    assert isinstance(found, list), found
    return found


def crash_at(folder, points) -> list[dict]:
    with ThreadPoolExecutor(LANES) as lanes:
        runs = [lanes.submit(conduct, folder, points=points[lane::LANES]) for lane in range(LANES)]
        return [crash for run in runs for crash in run.result()]


def judge(crashes) -> None:
    """Fail for each broken promise; prints where it died."""
    for crash in crashes:
        print("died" if crash["reached"] else "came not by", crash["point"])
    broken = [crash for crash in crashes if crash["faults"]]
    assert broken == []
    reached = [crash for crash in crashes if crash["reached"]]
    print(f"{len(reached)} of {len(crashes)} deaths, every promise kept")
    assert len(reached) > 0.8 * len(crashes)


def test_there_is_a_point_for_every_step_of_a_task(points):
    kinds = {point["kind"].split(" (")[0] for point in points}

    assert len(points) >= ENOUGH
    for step in ("INSERT INTO postlude_tasks", "INSERT INTO postlude_attempts", "BEGIN IMMEDIATE"):
        assert step in kinds
    for word in ("fsync", "replace", "COMMIT"):
        assert any(kind.startswith(word) for kind in kinds)


@pytest.mark.timeout(300)
def test_a_crash_at_one_step_in_eleven_breaks_no_promise(folder, points):
    judge(crash_at(folder, points[::11]))


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_a_crash_at_any_step_breaks_no_promise(folder, points):
    judge(crash_at(folder, points))
