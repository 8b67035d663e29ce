"""Keeps a list of roles alive until it is asked to stop, then lets them finish.

One thread, one loop: it reads what the children print, starts anew what has died or hangs, after a
growing delay, and drains on the first Ctrl-C or SIGTERM. What is not gone when the time is up, or
at a second Ctrl-C, is killed by name. If it is killed itself, its guard ends the children.
"""

from __future__ import annotations

import selectors
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import structlog

from postlude.policy import restart
from postlude.policy.hanging import seconds
from postlude.supervisor.child import Child, in_words, lived
from postlude.supervisor.output import Output
from postlude.supervisor.role import Role
from postlude.supervisor.signals import Signals
from postlude.supervisor.watchman import Guard

log = structlog.get_logger()

LOOK = 1.0
"""Seconds between two looks for children that hang."""
KILLED = 1
"""Exit code when something had to be killed."""

Hanging = Callable[[list[Child], float], dict[int, str]]
"""Which of the children hang, and why: process id -> reason. Asked about once a second."""


def nobody(_children: list[Child], _now: float) -> dict[int, str]:
    """Say that nobody hangs."""
    return {}


@dataclass(slots=True)
class _Slot:
    """The place of one role: its child, or when it gets the next one."""

    role: Role
    child: Child | None = None
    due: float = 0.0
    deaths: int = 0
    cause: str = ""
    """Why we killed the child, when we did."""


class Supervisor:
    """Runs ``roles`` until it is asked to stop; see :meth:`run`.

    ``deadline`` is how long children may take to leave. ``each_turn`` is called a few times a
    second, from the loop, and must be quick.
    """

    def __init__(
        self,
        roles: list[Role],
        output: Output,
        *,
        deadline: timedelta,
        hanging: Hanging = nobody,
        each_turn: Callable[[], None] = lambda: None,
    ) -> None:
        self._slots = [_Slot(role) for role in roles]
        self._output = output
        self._deadline = deadline.total_seconds()
        self._hanging = hanging
        self._each_turn = each_turn
        self._selector = selectors.DefaultSelector()
        self._signals = Signals()
        self._draining_until: float | None = None
        self._looked_at = 0.0
        self._code = 0
        self._guard: Guard
        self.report: list[str] = []
        """What the role that runs once has printed."""

    def run(self) -> int:
        """Run everything; returns when all children are gone.

        0: drained as asked. 1: something had to be killed. A role that runs ``once`` and ends gives
        its own code. Call it once, from the main thread of a process without other threads.
        """
        self._guard = Guard(grace=timedelta(seconds=self._deadline))
        try:
            with self._signals, self._selector:
                self._selector.register(self._signals.wakeup, selectors.EVENT_READ)
                while self._draining_until is None or self._children():
                    self._turn(time.monotonic())
        finally:
            self._guard.close()
        return self._code

    def _turn(self, now: float) -> None:
        if self._draining_until is None:
            self._start_what_is_due(now)
            self._kill_what_hangs(now)
            self._each_turn()
            if self._signals.drain or self._output.broken:
                self._drain(now)
        elif self._signals.at_once or now > self._draining_until:
            self._give_up(now)
        self._guard.check(child.pid for child in self._children())
        self._wait()
        self._bury_the_dead(time.monotonic())

    def _children(self) -> list[Child]:
        return [slot.child for slot in self._slots if slot.child]

    def _start_what_is_due(self, now: float) -> None:
        for slot in self._slots:
            if slot.child or now < slot.due:
                continue
            try:
                slot.child = Child(slot.role, self._guard, started=now)
            except OSError as error:
                self._restart_later(slot, timedelta(), f"could not be started: {error}", now)
                continue
            self._selector.register(slot.child.pipe, selectors.EVENT_READ, slot.child)
            log.info("role.started", role=slot.role.name, pid=slot.child.pid)

    def _kill_what_hangs(self, now: float) -> None:
        if now - self._looked_at < LOOK:
            return
        self._looked_at = now
        reasons = self._hanging(self._children(), now)
        for slot in self._slots:
            if slot.child and not slot.cause and slot.child.pid in reasons:
                why = reasons[slot.child.pid]
                slot.cause = f"killed: {why}"
                log.error("role.hangs", role=slot.role.name, pid=slot.child.pid, why=why)
                slot.child.kill()

    def _wait(self) -> None:
        """Wait for output, a signal or the next thing that is due, and pass the output on."""
        for key, _ in self._selector.select(timeout=0.2):
            child = key.data
            if child is None:
                self._signals.rest()
                continue
            lines = child.read()
            if lines is None:
                self._selector.unregister(key.fileobj)
            else:
                self._pass_on(child.role, lines)

    def _pass_on(self, role: Role, lines: list[str]) -> None:
        if role.once:
            self.report += lines
        else:
            self._output.write(role.name, lines)

    def _bury_the_dead(self, now: float) -> None:
        for slot in self._slots:
            if not slot.child or not slot.child.ended():
                continue
            child, slot.child = slot.child, None
            if child.pipe.fileno() in self._selector.get_map():
                self._selector.unregister(child.pipe)
            lines, code = child.bury()
            self._pass_on(slot.role, lines)
            how, slot.cause = slot.cause or in_words(code), ""
            if slot.role.once:
                self._code = self._code or (code if code >= 0 else KILLED)
            if self._draining_until is not None:
                # Uvicorn ends by the signal that asked it to; that is no way to be killed.
                how = "as asked" if code == -signal.SIGTERM else how
                log.info("role.left", role=slot.role.name, how=how)
            elif slot.role.once:
                self._drain(now)
            else:
                self._restart_later(slot, lived(child, now), how, now, code)

    def _restart_later(
        self, slot: _Slot, span: timedelta, how: str, now: float, code: int | None = None
    ) -> None:
        slot.deaths = restart.deaths_in_a_row(slot.deaths, span)
        wait = restart.delay(slot.deaths, slot.role.longest_restart, code=code)
        slot.due = now + wait.total_seconds()
        log.error(
            "role.outgrown" if code == restart.OUTGROWN else "role.died",
            role=slot.role.name,
            how=how,
            after=seconds(span),
            restart_in=seconds(wait),
        )

    def _drain(self, now: float) -> None:
        self._draining_until = now + self._deadline
        log.info("stack.draining", patience=seconds(timedelta(seconds=self._deadline)))
        for child in self._children():
            child.stop()

    def _give_up(self, now: float) -> None:
        """Kill what is left; once, for the dead need a moment to be buried."""
        self._draining_until = now + self._deadline
        why = "a second Ctrl-C" if self._signals.at_once else "it did not leave in time"
        for slot in self._slots:
            if slot.child and not slot.cause:
                self._code = self._code or KILLED
                slot.cause = f"killed: {why}"
                log.warning("role.killed", role=slot.role.name, pid=slot.child.pid, why=why)
                slot.child.kill()
