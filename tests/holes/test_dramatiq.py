"""Holes of Dramatiq, whatever its broker. They are shown to be there, lest we claim what is no more."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
PATIENCE_S = 30


def test_a_hook_that_breaks_before_an_actor_lets_it_run(theatre):
    stock, ours = theatre.both("scenes_dramatiq.py", "stub", "a_hook_breaks_before_the_actor")

    assert stock == {"ran": True, "dead_letters": 0}
    assert ours == {"ran": False, "dead_letters": 1}


def test_a_retry_that_cannot_be_enqueued_is_lost(theatre):
    stock, ours = theatre.both("scenes_dramatiq.py", "stub", "a_retry_cannot_be_enqueued")

    assert stock == {"runs": 1, "dead_letters": 0}
    assert ours == {"runs": 2, "dead_letters": 0}


def test_a_time_limit_that_strikes_in_a_hook_costs_the_thread_and_the_task(theatre):
    stock, ours = theatre.both("scenes_dramatiq.py", "stub", "a_time_limit_strikes_in_a_hook")

    assert stock == {"struck": True, "thread_alive": False, "dead_letters": 0}
    assert ours == {"struck": False, "thread_alive": True, "dead_letters": 1}


def test_a_worker_that_does_not_know_an_actor_yet_buries_its_tasks(theatre):
    stock, ours = theatre.both("scenes_dramatiq.py", "stub", "a_worker_does_not_know_the_actor_yet")

    assert stock == {"ran": ["old"], "dead_letters": 1}
    assert ours == {"ran": ["old", "new"], "dead_letters": 0}


def test_one_dead_child_stops_all_workers(tmp_path):
    program = Path(sys.executable).with_name("dramatiq")
    master = subprocess.Popen(
        [program, "scenes_tree", "-p", "2", "-t", "1"],
        env=os.environ | {"PYTHONPATH": str(HERE), "HOLE_CHILDREN": str(tmp_path)},
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + PATIENCE_S
        while len(children := list(tmp_path.iterdir())) < 2:
            assert time.monotonic() < deadline, "its children do not start"
            time.sleep(0.01)
        os.kill(int(children[0].name), signal.SIGKILL)

        # Killed before it has said that it is there, it is waited for 30 s long.
        assert master.wait(PATIENCE_S + 30) == 1
    finally:
        master.kill()
        master.wait()
