"""One task in a child: from the call of its actor to what it returned, raised, or died of there."""

from __future__ import annotations

import contextlib
import json
import math
import threading
import time
from functools import update_wrapper
from typing import TYPE_CHECKING, Any

import structlog
from dramatiq.middleware import CurrentMessage, Shutdown, TimeLimitExceeded

from postlude import process
from postlude.broker import unfit
from postlude.broker.intake import signature, store
from postlude.errors import BadResult, CannotIsolate, ChildDied
from postlude.isolation.home import home_of
from postlude.isolation.options import is_isolated, memory_limit
from postlude.isolation.pool import pool
from postlude.isolation.raised import Elsewhere, describe, rebuild
from postlude.isolation.sent import unpack
from postlude.middleware.cancelled import Cancelled
from postlude.policy.crash import Suspicion
from postlude.settings import settings
from postlude.sizes import format_size
from postlude.states import Reason, State

if TYPE_CHECKING:
    from dramatiq import Actor

    from postlude.broker.delivery import Delivery
    from postlude.isolation.process import ChildProcess
    from postlude.ledger.task import Claimed

log = structlog.get_logger()

START_S = 60.0
"""How long a child may take to decode the arguments, before the actor's own time begins."""
STACK_S = 0.05
"""How long a child has after its limit to write down where it was."""


class NotInAChild(Shutdown):
    """Hands a suspect back: it cannot run in a child, so it runs alone in its worker next time."""


class Unfit(Shutdown):
    """Hands a task back: its arguments do not fit this version of the actor, and may fit another."""


def runs_apart(actor: Actor[..., Any], task: Claimed) -> bool:
    """Say whether ``task`` is to run in a child: its actor wants it, or it may have killed a worker."""
    return is_isolated(actor) or task.suspect in {Suspicion.APART, Suspicion.ALONE}


class Run:
    """Called in place of the actor, by the worker thread that has the task; making one sees to that."""

    def __init__(self, actor: Actor[..., Any], task: Delivery) -> None:
        self.actor = actor
        self.limit_s = math.inf
        self._task = task
        self._lock = threading.Lock()
        """Keeps a child from being killed that has gone on to somebody else's task."""
        self._child: ChildProcess | None = None
        self._cancelled = False
        self._suspected = bool(task.task.suspect) and not is_isolated(actor)
        _enclose(actor)

    def __call__(self) -> Any:
        """Run the task in a child; returns and raises what the actor does there.

        Raises ChildDied when the child does not survive it, TimeLimitExceeded when it had to be
        killed at its limit, Cancelled when it was killed because somebody has cancelled the task.
        """
        try:
            return self._run()
        except ChildDied as error:
            if self._cancelled:
                raise Cancelled(str(error)) from None
            if self._suspected:
                self._task.crashed()
            raise
        except CannotIsolate as error:
            no_process_to_be_had = isinstance(error.__cause__, OSError)
            self._task.stays_suspect = no_process_to_be_had
            if not self._suspected or no_process_to_be_had:
                raise
            self._task.suspicion = int(Suspicion.INSIDE)
            raise NotInAChild(str(error)) from error

    def interrupt(self) -> None:
        """Raise Dramatiq's Shutdown in the actor. May be called by any thread, at any time."""
        child = self._child
        if child is not None:
            with contextlib.suppress(OSError):  # whoever waits for it hears that it has just died
                child.line.say(do="interrupt")

    def cancel(self) -> None:
        """Kill the child, whatever it is doing. May be called by any thread, at any time."""
        with self._lock:
            self._cancelled = True
            if self._child is not None:
                self._child.end()

    def _run(self) -> Any:
        module = home_of(self.actor)
        # What another suspect has left behind must not be what this one dies of the next time.
        fresh = self._suspected and self._task.task.crashes > 0
        with pool().lend(module, fresh=fresh) as child:
            child.load(self.actor.actor_name, module, self._attend)
            child.tell(do="run", **self._order())
            with self._lock:
                self._child = child
                if self._cancelled:
                    child.end()
            try:
                frame = self._listen(child)
            finally:
                with self._lock:
                    self._child = None
            if (
                self._cancelled
            ):  # it was killed as it answered; whoever has it next must not be blamed
                message = "its child was killed when it had just answered"
                raise Cancelled(message)
            if frame["say"] == "unfit":
                raise rebuild(frame["error"])
        return self._answer(frame)

    def _order(self) -> dict[str, Any]:
        task = self._task
        return {
            "actor": task.actor_name,
            "queue": task.queue_name,
            "id": task.message_id,
            "timestamp": task.message_timestamp,
            "options": task.options,
            "arguments": task.task.arguments,
            "memory_limit": memory_limit(self.actor),
            "result_limit": settings().result_limit,
            "limit_s": None if math.isinf(self.limit_s) else self.limit_s,
        }

    def _listen(self, child: ChildProcess) -> dict[str, Any]:
        """Attend to what the child says until it is done; TimeLimitExceeded when its time is up."""
        limit_s, began = START_S, time.monotonic()
        while True:
            try:
                frame = child.hear(began + limit_s + STACK_S)
            except ChildDied:
                if time.monotonic() < began + limit_s:
                    raise
                frame = None  # it was about to be killed
            if frame is None:
                self._task.stays_suspect = True
                raise self._overdue(child, limit_s)
            if frame["say"] == "started":
                limit_s, began = self.limit_s, time.monotonic()
            elif frame["say"] in {"returned", "raised", "refused", "unfit"}:
                return frame
            else:
                self._attend(child, frame)

    def _overdue(self, child: ChildProcess, limit_s: float) -> TimeLimitExceeded:
        """Return the error of a child that is to be killed.

        A suspect that hangs with the interpreter's lock in its hands has stopped its worker's heart, and
        would again: that counts against it like the death of its child.
        """
        words = f"killed at its limit of {limit_s:g} s"
        if self._suspected and not child.hears():
            words += (
                ", at which it held the interpreter's lock and would have stopped a whole worker"
            )
            self._task.hung()
        error = TimeLimitExceeded(words)
        error.__cause__ = Elsewhere(child.last_words())
        return error

    def _attend(self, child: ChildProcess, frame: dict[str, Any]) -> None:
        """Do what a child asks for on the way."""
        match frame["say"]:
            case "log":
                _log(child, frame["line"])
            case "progress" if frame["task"] == self._task.message_id:
                self._task.report_progress(frame["progress"])
            case "send":
                child.tell(do="sent", number=frame["number"], error=_store(frame["tasks"]))

    def _answer(self, frame: dict[str, Any]) -> Any:
        """Return or raise what the actor did."""
        match frame["say"]:
            case "returned":
                if frame["dropped"]:
                    self._task.drop_result(BadResult(frame["dropped"]))
                return json.loads(frame["result"])
            case "refused":
                self._refuse(rebuild(frame["error"]))
        raise rebuild(frame["error"])

    def _refuse(self, error: BaseException) -> None:
        """Let the task fail whose arguments the child could not decode; or wait, and raise Unfit."""
        version = signature(self.actor).fingerprint()
        found = unfit.outcome_of(process.current(), self._task.task, error, version)
        if found.state is not State.FAILED:
            self._task.wait_for_another(found)
            raise Unfit(str(error)) from error
        self._task.give_up(Reason.BAD_ARGUMENTS)


class Enclosed:
    """An actor's function that runs in a child when a worker thread calls it for a task to run apart."""

    def __init__(self, fn: Any) -> None:
        self._fn = fn
        update_wrapper(self, fn)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task apart, or call the function as it is."""
        run = getattr(CurrentMessage.get_current_message(), "apart", None)
        if run is not None and run.actor.fn is self:
            return run()
        return self._fn(*args, **kwargs)


def _enclose(actor: Actor[..., Any]) -> None:
    """Let ``actor`` look where its task is to run, from now on."""
    if not isinstance(actor.fn, Enclosed):
        actor.fn = Enclosed(actor.fn)


def check(actors: list[Actor[..., Any]]) -> None:
    """See to it that each isolated one can be run in a child, before there is a task for it.

    Raises CannotIsolate naming the first that cannot. The child that has tried it stays, warm.
    """
    for actor in filter(is_isolated, actors):
        limit = memory_limit(actor)
        module = home_of(actor)
        with pool().lend(module) as child:
            used = child.load(actor.actor_name, module, _only_log)
        if limit is not None and used >= limit:
            message = (
                f"{actor.actor_name}: memory_limit is {format_size(limit)}, and a child process has "
                f"an address space of {format_size(used)} before it runs anything; raise it"
            )
            raise CannotIsolate(message)


def _only_log(child: ChildProcess, frame: dict[str, Any]) -> None:
    if frame["say"] == "log":
        _log(child, frame["line"])


def _log(child: ChildProcess, line: dict[str, Any]) -> None:
    """Log what was logged in the child, in this task's context."""
    event, level = line.pop("event", ""), line.pop("level", "info")
    for ours in ("timestamp", "role", "pid"):
        line.pop(ours, None)
    getattr(log, level, log.info)(event, **line | {"child": child.pid})


def _store(tasks: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Store what an actor in a child sends; returns what to raise there, if anything."""
    try:
        store(unpack(tasks))
    except Exception as error:  # noqa: BLE001 # the actor's own business
        return describe(error)
    return None
