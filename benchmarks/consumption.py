"""What processes use: CPU seconds and memory, as Linux tells in /proc; None elsewhere."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.program import Program

PROC = Path("/proc")
_SESSION, _TIMES, _RESIDENT = 3, slice(11, 15), 21
"""Where the fields of /proc/<pid>/stat are, counted after the command's closing bracket."""


@dataclass(frozen=True, slots=True)
class Consumption:
    """What the processes of one session have used so far.

    ``cpu_s`` includes children that have ended and were waited for; ``largest`` is the resident
    memory of the biggest process in bytes, as a container's limit would count it.
    """

    cpu_s: float
    largest: int


def of_session(leader: int) -> Consumption | None:
    """Add up the processes that belong to the session of ``leader``; None if nobody can tell."""
    ticks, largest, found = 0, 0, False
    for folder in PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):  # it has ended meanwhile
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(fields[_SESSION]) == leader:
                found = True
                ticks += sum(int(field) for field in fields[_TIMES])
                largest = max(largest, int(fields[_RESIDENT]))
    if not found:
        return None
    return Consumption(ticks / os.sysconf("SC_CLK_TCK"), largest * os.sysconf("SC_PAGE_SIZE"))


def of_machine() -> float | None:
    """Return the CPU seconds that all of this machine has spent since it was started."""
    try:
        first = (PROC / "stat").read_text().splitlines()[0]
    except OSError:
        return None
    user, nice, system, _idle, _iowait, irq, softirq, *_ = (int(n) for n in first.split()[1:])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


class Usage:
    """What programs, and the whole machine, use from now on."""

    def __init__(self, *programs: Program) -> None:
        self._programs = programs
        self._cpu_s = self._read()
        self._machine_s = of_machine()

    def per(self, count: float) -> dict[str, float | None]:
        """Return the CPU microseconds per task since then: the programs' own, and the machine's.

        The machine's include the servers behind a peer and the client, and whatever else runs here.
        """
        cpu_s, machine_s = self._read(), of_machine()
        return {
            "cpu_us": _each(self._cpu_s, cpu_s, count),
            "machine_us": _each(self._machine_s, machine_s, count),
        }

    def _read(self) -> float | None:
        used = [program.consumption() for program in self._programs]
        return sum(each.cpu_s for each in used if each) if any(used) else None


def _each(before: float | None, after: float | None, count: float) -> float | None:
    if before is None or after is None:
        return None
    return (after - before) / count * 1e6
