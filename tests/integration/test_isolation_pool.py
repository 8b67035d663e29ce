"""Children of this very process: lent, kept warm, replaced when they are no good, and gone with the pool."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from postlude.errors import CannotIsolate, ChildDied
from postlude.isolation import pool as pools
from postlude.isolation import process as processes
from postlude.isolation.pool import Pool
from postlude.isolation.process import ChildProcess

ROOT = Path(__file__).parents[2]
PATIENCE_S = 30
ACTORS = """
import dramatiq, postlude

@dramatiq.actor(actor_name="test-pool-{name}")
def actor():
    pass
"""
BROKEN = "raise ImportError('no such library')"
DEADLY = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
FORKING = """
import os, time
if os.fork() == 0:
    time.sleep(3600)
os._exit(5)
"""
HERMIT = "import os; os.closerange(3, 100)"
WORKER = """
import sys, time
from postlude.isolation.pool import pool

with pool().lend("json") as child:
    print("pid", child.pid, flush=True)
    sys.stdin.read()
    {ending}
"""


@pytest.fixture
def pool(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("POSTLUDE_DATA_DIR", str(tmp_path))
    for name, code in {
        "pool_one": ACTORS.format(name="one"),
        "pool_two": ACTORS.format(name="two"),
        "pool_broken": BROKEN,
        "pool_deadly": DEADLY,
        "pool_forking": FORKING,
        "pool_hermit": HERMIT,
    }.items():
        (tmp_path / f"{name}.py").write_text(code)
    pool = Pool()
    yield pool
    pool.close()


def ignore(_child, _frame) -> None:
    """Attend to nothing."""


def load(child: ChildProcess, name: str = "one", module: str | None = None) -> int:
    return child.load(f"test-pool-{name}", module or f"pool_{name}", ignore)


def is_there(pid: int) -> bool:
    """Say whether a process runs; one that has ended may wait for somebody to ask after it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def until(condition) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)


def test_a_child_is_lent_again_best_one_that_has_loaded_the_module(pool):
    with pool.lend("pool_one") as one, pool.lend("pool_two") as two:
        load(one, "one")
        load(two, "two")

    for module, child in (("pool_one", one), ("pool_two", two), ("pool_one", one)):
        with pool.lend(module) as lent:
            assert lent is child


def test_a_child_of_ones_own_is_no_one_elses_before_or_after(pool):
    with pool.lend("pool_one") as warm:
        load(warm)
    with pool.lend("pool_one", fresh=True) as own:
        load(own)

    assert own is not warm
    assert not is_there(own.pid)


def test_after_a_failure_nobody_gets_the_child(pool):
    with pytest.raises(KeyError), pool.lend("pool_one") as child:
        raise KeyError

    assert not is_there(child.pid)


def test_a_child_that_died_while_it_was_idle_is_replaced(pool):
    with pool.lend("pool_one") as child:
        load(child)
    os.kill(child.pid, signal.SIGKILL)
    until(lambda: child.ended)

    with pool.lend("pool_one") as other:
        assert load(other) > 0
    assert other is not child


def test_a_child_is_replaced_after_so_many_tasks(pool, monkeypatch):
    monkeypatch.setattr(pools, "TASKS", 2)
    lent = []
    for _ in range(3):
        with pool.lend("pool_one") as child:
            lent.append(child.pid)

    assert lent[0] == lent[1] != lent[2]
    assert not is_there(lent[0])


def test_an_idle_child_is_ended_after_a_while(pool, monkeypatch):
    with pool.lend("pool_one") as child:
        load(child)
    pool.retire_idle()
    before = is_there(child.pid)
    monkeypatch.setattr(pools, "IDLE_S", 0.0)
    pool.retire_idle()

    assert (before, is_there(child.pid)) == (True, False)


def test_closing_the_pool_ends_them_all_the_lent_ones_too(pool):
    with pool.lend("pool_one") as idle, pytest.raises(ChildDied, match="SIGKILL"):  # noqa: PT012
        with pool.lend("pool_two") as busy:
            load(idle)
        with pool.lend("pool_two") as busy:
            pool.close()
            busy.hear(time.monotonic() + PATIENCE_S)

    for child in (idle, busy):
        assert not Path(f"/proc/{child.pid}").exists(), "it has been waited for, too"


def test_what_cannot_be_imported_is_named_and_the_child_is_none_the_worse(pool):
    with pool.lend("pool_one") as child:
        with pytest.raises(CannotIsolate, match=r"broken .*: ImportError: no such library"):
            load(child, "broken")
        with pytest.raises(CannotIsolate, match="importing pool_one does not declare it"):
            load(child, "two", "pool_one")
        with pytest.raises(CannotIsolate, match="__main__, which a child process cannot import"):
            load(child, "two", "__main__")

        assert load(child) > 0


def test_an_import_that_kills_is_a_death_with_a_place(pool):
    with (
        pytest.raises(ChildDied, match=r"killed by SIGSEGV \(11\)") as caught,
        pool.lend("x") as child,
    ):
        load(child, "deadly")

    assert "pool_deadly.py" in str(caught.value.__cause__)


def test_a_child_that_closes_all_its_files_ends_there_and_is_not_waited_for(pool):
    with pytest.raises(ChildDied, match=r"exited with code [01]"), pool.lend("x") as child:
        load(child, "hermit")

    assert not is_there(child.pid)


def test_what_a_child_has_forked_does_not_hide_its_death(pool):
    began = time.monotonic()
    with pytest.raises(ChildDied, match="exited with code 5"), pool.lend("x") as child:
        load(child, "forking")

    assert time.monotonic() - began < PATIENCE_S
    until(lambda: members(child.pid) == [])


def members(group: int) -> list[int]:
    """Return the running processes of a process group."""
    found = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [pid for pid in found if is_there(pid) and group_of(pid) == group]


def group_of(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0


def test_a_child_that_has_been_stopped_is_not_spoken_to_for_ever(pool, monkeypatch):
    monkeypatch.setattr(processes, "SEND_S", 1)
    with pool.lend("pool_one", fresh=True) as child:
        os.kill(child.pid, signal.SIGSTOP)
        with pytest.raises(ChildDied, match="or stood still"):
            child.tell(do="run", arguments="x" * 10_000_000)


def test_a_child_that_cannot_be_started_is_an_error_that_says_so(pool, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/there/is/no/python")

    with pytest.raises(CannotIsolate, match="could not be started"), pool.lend("x"):
        pass


@pytest.mark.parametrize(
    "ending", ["", "import os; os._exit(0)", "import os; os.abort()"], ids=["end", "exit", "abort"]
)
def test_children_end_with_their_worker_however_it_ends(tmp_path, ending):
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER.format(ending=ending)],
        cwd=ROOT,
        env=os.environ | {"POSTLUDE_DATA_DIR": str(tmp_path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    child = next(int(line.split()[1]) for line in worker.stdout if line.startswith(b"pid"))
    worker.communicate()

    until(lambda: not is_there(child))


def test_a_child_that_is_started_by_somebody_else_ends_at_once():
    done = subprocess.run(
        [sys.executable, "-m", "postlude.isolation.child", "0", "1", "1"],
        cwd=ROOT,
        capture_output=True,
        timeout=PATIENCE_S,
        check=False,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
