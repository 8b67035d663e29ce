"""Lives lives in forked children, so that each of hundreds of crashes costs no import.

``python conductor.py FOLDER dry`` prints every point to die at, one JSON line each; with points on
stdin it prints, for each, whether the life came by there and which promises were broken.
The parent opens nothing, so forking it is safe.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import judge
import life
import steps

import actors  # noqa: F401 - declares them
from postlude.ledger import migrate
from postlude.settings import settings

if TYPE_CHECKING:
    from collections.abc import Callable

FOLDER = Path(sys.argv[1])


def main() -> None:
    """See the module's docstring."""
    template = FOLDER / f"template-{os.getpid()}"
    assert _apart(_haunted_house, template) == 0, (template / "log").read_text()
    if sys.argv[2:] == ["dry"]:
        plan = _in_child(_dry, _copy(template, "dry"))
        print(json.dumps(plan), flush=True)
        return
    for number, line in enumerate(sys.stdin):
        folder = _copy(template, f"crash-{os.getpid()}-{number}")
        print(json.dumps(_crash(steps.Point(**json.loads(line)), folder)), flush=True)


def _haunted_house() -> None:
    migrate.upgrade(settings())
    life.haunt()


def _dry() -> list[dict[str, Any]]:
    plan = steps.Plan()
    steps.watch(plan)
    life.walk()
    return [asdict(point) for point in plan.points()]


def _crash(point: steps.Point, folder: Path) -> dict[str, Any]:
    def die() -> None:
        steps.watch(steps.Plan(die_at=point))
        life.walk()

    def look() -> list[str]:
        judge.recover()
        return judge.verdict()

    status = _apart(die, folder)
    reached = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    faults = [] if reached or status == 0 else [f"the life ended with status {status}"]
    found = _in_child(look, folder)
    faults += found if isinstance(found, list) else [f"no verdict: {found}"]
    if not faults:
        shutil.rmtree(folder)
    return {"point": str(point), "reached": reached, "faults": faults, "folder": str(folder)}


def _copy(template: Path, name: str) -> Path:
    folder = FOLDER / name
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(template, folder)
    return folder


def _in_child(act: Callable[[], Any], folder: Path) -> Any:
    """Return what ``act`` returns in a child of its own, or how that ended."""
    answer = folder / "answer"

    def write() -> None:
        answer.write_text(json.dumps(act()))

    status = _apart(write, folder)
    return json.loads(answer.read_text()) if status == 0 else f"status {status}, see {folder}/log"


def _apart(act: Callable[[], Any], folder: Path) -> int:
    """Call ``act`` in a child that uses ``folder``; returns the status that it left with."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.environ |= {
            "POSTLUDE_DATA_DIR": str(folder),
            "POSTLUDE_HEARTBEAT": "200ms",
            "POSTLUDE_LEASE": "1s",
        }
        settings.cache_clear()
        act()
        os._exit(0)
    except BaseException:  # noqa: BLE001 - printed; whatever it is must not run on as a second parent
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


if __name__ == "__main__":
    main()
