"""The supervisor over real processes: what dies, hangs, is asked to leave, will not, is killed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("supervised.py")
ROOT = Path(__file__).parents[2]
PATIENCE = 20


class Stage:
    """A running `supervised.py`, whose output can be waited for."""

    def __init__(self, folder, roles, *, deadline=5.0, lease=60.0, boot=60.0):
        config = {
            "roles": roles,
            "folder": str(folder),
            "deadline": deadline,
            "lease": lease,
            "boot": boot,
        }
        self.process = subprocess.Popen(
            [sys.executable, str(PROGRAM), json.dumps(config)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.lines = []
        self._more = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            with self._more:
                self.lines.append(line.decode().rstrip("\n"))
                self._more.notify_all()

    def wait_for(self, pattern, times=1):
        """Wait until `times` lines match; return the last match."""

        def found():
            return [match for match in (re.search(pattern, line) for line in self.lines) if match]

        with self._more:
            enough = self._more.wait_for(lambda: len(found()) >= times, PATIENCE)
            assert enough, f"no {pattern!r} in:\n" + "\n".join(self.lines)
            return found()[times - 1]

    def pid(self, role, times=1, word="up"):
        return int(self.wait_for(rf"^{role} +\| {word} (\d+)", times)[1])

    def matching(self, pattern):
        return [line for line in self.lines if re.search(pattern, line)]

    def ask(self, number=signal.SIGTERM):
        self.process.send_signal(number)

    def code(self):
        code = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return code

    def close(self):
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(PATIENCE)
        self.process.kill()
        self.process.wait()
        self._reader.join(PATIENCE)
        self.process.stdout.close()


@pytest.fixture
def stage(tmp_path):
    stages = []

    def start(roles, **limits):
        stages.append(Stage(tmp_path, roles, **limits))
        return stages[-1]

    yield start
    for running in stages:
        running.close()


def alive(pid):
    """Tell whether the process runs; a zombie that waits for its parent does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0]
    except OSError:
        return False
    return state != b"Z"


def gone(*pids):
    deadline = time.monotonic() + PATIENCE
    while any(map(alive, pids)) and time.monotonic() < deadline:
        threading.Event().wait(0.02)
    return not any(map(alive, pids))


# What dies


def test_what_exits_is_started_again_and_the_exit_code_is_told(stage):
    running = stage({"api": "broken"})

    running.wait_for(r"^run +\| .*role\.died.*role=api.*exited with code 3.*restart_in='0\.5 s'")

    assert running.pid("api") != running.pid("api", times=2)


def test_the_delay_grows_with_each_death_in_a_row(stage):
    running = stage({"api": "broken"})

    running.wait_for(r"role\.died.*restart_in='2\.0 s'")

    assert len(running.matching(r"role\.died")) == 3


def test_what_is_killed_is_started_again_and_the_signal_is_told(stage):
    running = stage({"api": "steady", "worker": "steady"})

    os.kill(running.pid("worker"), signal.SIGKILL)

    running.wait_for(r"role\.died.*role=worker.*killed by SIGKILL")
    assert alive(running.pid("worker", times=2))
    assert len(running.matching(r"api +\| up")) == 1


def test_what_cannot_be_started_is_tried_again_and_told(stage, tmp_path):
    running = stage({"api": str(tmp_path / "absent")})

    running.wait_for(r"role\.died.*role=api.*could not be started.*absent", times=2)


def test_what_a_dead_leader_leaves_behind_is_ended(stage):
    running = stage({"worker": "parent"})
    kin = running.pid("worker", word="kin")

    os.kill(running.pid("worker"), signal.SIGKILL)

    running.wait_for(r"role\.died.*role=worker")
    assert gone(kin)


# What hangs


def test_what_is_stopped_for_longer_than_the_lease_is_killed_and_started_again(stage):
    running = stage({"api": "steady", "worker": "steady"}, lease=1.0)
    stopped = running.pid("worker")

    os.kill(stopped, signal.SIGSTOP)

    running.wait_for(r"role\.died.*role=worker.*killed: it was stopped for \d")
    assert gone(stopped)
    assert running.pid("worker", times=2)
    assert len(running.matching(r"api +\| up")) == 1


def test_a_stopped_descendant_counts_as_stopped(stage):
    running = stage({"worker": "parent"}, lease=1.0)
    kin = running.pid("worker", word="kin")

    os.kill(kin, signal.SIGSTOP)

    running.wait_for(r"role\.died.*role=worker.*it was stopped")
    assert gone(kin)


def test_what_is_silent_while_others_beat_is_killed_and_started_again(stage):
    running = stage({"api": "beating", "worker": "faint"}, lease=2.0)

    running.wait_for(r"role\.died.*role=worker.*killed: it was silent for \d")

    assert running.pid("worker", times=2)
    assert len(running.matching(r"api +\| up")) == 1


def test_a_master_that_waits_for_a_process_that_has_died_is_killed_and_started_again(stage):
    running = stage({"api": "bereft", "worker": "bereft"})

    running.wait_for(r"role\.died.*role=worker.*killed: the process that it waits for died \d")

    assert running.pid("worker", times=2)
    assert len(running.matching(r"api +\| up")) == 1


@pytest.mark.parametrize("renewing", ["renewing", "renewing with a fork"])
def test_what_left_in_order_to_be_renewed_in_its_place_is_waited_for(stage, renewing):
    """Dramatiq starts forks anew with its workers, and never asks after the old ones."""
    running = stage({"api": "beating", "worker": renewing}, lease=2.0)

    running.pid("worker", word="renewed")

    assert not running.matching(r"role\.(died|hangs)")


# Leaving


def test_asked_to_stop_it_lets_children_finish_and_exits_with_0(stage):
    running = stage({"api": "steady", "worker": "steady"})
    pids = running.pid("api"), running.pid("worker")

    running.ask()

    assert running.code() == 0
    assert len(running.matching(r"got SIGTERM")) == 2
    assert gone(*pids)


def test_ctrl_c_in_the_terminal_reaches_the_children_only_as_one_sigterm(stage):
    running = stage({"api": "steady", "worker": "twice"})
    running.pid("api"), running.pid("worker")

    os.killpg(running.process.pid, signal.SIGINT)  # what a terminal does

    assert running.code() == 0
    assert running.matching(r"api +\| got SIGTERM")
    assert running.matching(r"worker +\| times 1$")


def test_a_stopped_child_is_woken_to_leave(stage):
    running = stage({"worker": "steady"})
    os.kill(running.pid("worker"), signal.SIGSTOP)

    running.ask()

    assert running.code() == 0
    assert running.matching(r"got SIGTERM")


def test_what_does_not_leave_in_time_is_killed_by_name(stage):
    running = stage({"api": "steady", "worker": "stubborn"}, deadline=0.5)
    stubborn = running.pid("worker")
    running.pid("api")

    running.ask()

    assert running.code() == 1
    assert running.matching(r"role\.killed.*role=worker.*did not leave in time")
    assert not running.matching(r"role\.killed.*role=api")
    assert gone(stubborn)


def test_a_second_ctrl_c_kills_at_once(stage):
    running = stage({"worker": "stubborn"}, deadline=60)
    stubborn = running.pid("worker")
    running.ask(signal.SIGINT)
    running.wait_for(r"stack\.draining")

    running.ask(signal.SIGINT)

    assert running.code() == 1
    assert running.matching(r"role\.killed.*a second Ctrl-C")
    assert gone(stubborn)


def test_nothing_is_started_again_while_it_drains(stage):
    running = stage({"api": "broken", "worker": "steady"})
    running.pid("worker")
    running.wait_for(r"role\.died.*restart_in='1\.0 s'")

    running.ask()

    assert running.code() == 0
    assert len(running.matching(r"api +\| up")) == 2


def test_the_end_of_a_role_that_runs_once_ends_everything_with_its_code(stage):
    running = stage({"api": "steady", "demo": "visitor"})

    assert running.code() == 7
    assert running.matching(r"^report: \['seen everything'\]")


# Being killed


@pytest.mark.parametrize("state", ["running", "stopped"])
def test_killed_itself_it_leaves_no_orphans(stage, state):
    running = stage({"api": "steady", "worker": "parent"}, deadline=0.5)
    pids = running.pid("api"), running.pid("worker"), running.pid("worker", word="kin")
    if state == "stopped":
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)

    running.process.kill()

    assert gone(*pids)


def test_killed_itself_it_still_lets_children_finish(stage, tmp_path):
    running = stage({"worker": "diary"})
    worker = running.pid("worker")

    running.process.kill()

    assert gone(worker)
    assert (tmp_path / "diary").read_text() == "left in peace"


def test_a_killed_guard_is_replaced(stage):
    running = stage({"worker": "stubborn"}, deadline=0.5)
    worker = running.pid("worker")
    first = guard_of(running.process.pid)

    os.kill(first, signal.SIGKILL)

    deadline = time.monotonic() + PATIENCE
    while guard_of(running.process.pid) in {first, None} and time.monotonic() < deadline:
        threading.Event().wait(0.02)
    running.process.kill()
    assert gone(worker)


def guard_of(supervisor):
    """Find the guard among the supervisor's children."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(stat.read_bytes().rpartition(b")")[2].split()[1])
            if parent == supervisor and b"guard.py" in (stat.parent / "cmdline").read_bytes():
                return int(stat.parent.name)
    return None


# What it prints


def test_partial_lines_and_odd_bytes_come_out_whole_with_their_role(stage):
    running = stage({"worker": "odd"})

    running.wait_for(r"role\.died.*exited with code 0")

    assert running.matching(r"^worker \| half a line$")
    assert running.matching(r"^worker \| latin \\xe9$")
    assert running.matching(r"^worker \| no newline at the end$")
