"""What one HTTP request owes: the tasks that it has added, and how far its response is.

The middlewares move it along, ``BackgroundTasks`` objects put tasks in. Endpoints in threads only
append; what is taken out is counted, never removed, so nothing that is added meanwhile gets lost.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

import structlog

from postlude.dispatch import promises
from postlude.dispatch.answers import Answered
from postlude.errors import AcceptUnknown, BadBinding, BadOptions, PostludeError

if TYPE_CHECKING:
    from starlette.background import BackgroundTasks as InProcess

    from postlude.dispatch.binding import Binding
    from postlude.door import Door
    from postlude.ledger.key import Answer
    from postlude.ledger.task import NewTask

log = structlog.get_logger()

SCOPE_KEY = "postlude.exchange"
"""Where the ASGI scope carries the exchange."""

current: ContextVar[Exchange | None] = ContextVar("postlude.exchange", default=None)
"""The exchange of the request that is handled here, for ``BackgroundTasks()`` made by hand."""


class Refused(Exception):
    """Tasks could not be accepted: unwinds the request, so that its dependencies roll back.

    No :class:`PostludeError`: an app's handler for those would catch it on its way, where Starlette
    believes that the response has started already. Only our middleware catches it.
    """


class Bundle:
    """The durable tasks of one ``BackgroundTasks`` object, in the order they were added.

    ``wanted`` says whether they are to run. True from the start for the injected object, False once
    the request has failed. None for one made by hand, until it is called after the response.
    With a ``binding``, ``rows`` are those that its session has committed.
    """

    __slots__ = ("binding", "exchange", "in_process", "rows", "settled", "stored", "wanted")

    def __init__(
        self, exchange: Exchange | None, in_process: InProcess, *, wanted: bool | None = None
    ) -> None:
        self.exchange = exchange
        self.in_process = in_process
        self.wanted = wanted
        self.rows: list[NewTask] = []
        self.stored = 0
        self.settled = 0
        self.binding: Binding | None = None

    @property
    def is_fresh(self) -> bool:
        """Whether it has tasks that are to be accepted; what is bound, its session sees to."""
        return self.binding is None and len(self.rows) > self.stored

    def add(self, *tasks: NewTask) -> None:
        """Note ``tasks``, all or none.

        Raises RuntimeError when their request has failed or is over, BadBinding when it is bound elsewhere.
        """
        for task in tasks:
            self._check(task)
        if self.binding is not None:
            for task in tasks:
                self.binding.note(task)
            return
        self.rows += tasks  # at once, so that no accept takes only some of them
        if self.exchange is not None and self.rows and self not in self.exchange.bundles:
            self.exchange.bundles.append(self)

    def _check(self, task: NewTask) -> None:
        exchange = self.exchange
        if self.wanted is False or (exchange is not None and exchange.over):
            fate = "failed" if self.wanted is False else "ended"
            message = (
                f"a task for actor {task.actor!r} was added when its request had {fate} already;"
                f" use {task.actor}.send() there"
            )
            raise RuntimeError(message)
        if self.binding is not None:
            self.binding.check(task)
        elif exchange is not None and exchange.binding is not None:
            message = (
                f"this request is bound to a session, so a task for actor {task.actor!r} cannot go into"
                " BackgroundTasks made by hand; add it to the injected ones"
            )
            raise BadBinding(message)
        if self.rows and any(row.id == task.id for row in self.rows):
            message = (
                f"task {task.id} was added already; add a message once, or build a new one with"
                f" {task.actor}.message(…)"
            )
            raise BadOptions(message)

    def owe(self, task: NewTask, door: Door) -> None:
        """Take over ``task``, which the bound session has committed through ``door``."""
        if self.exchange is not None:
            self.exchange.door = door
        self.rows.append(task)
        self.stored = len(self.rows)

    def fail(self) -> None:
        """Drop everything but what is bound: the request failed before its response started."""
        if self.binding is None:
            self.wanted = False
        if self.exchange is not None:
            self.exchange.fail()


class Exchange:
    """One request and its response, as far as durable tasks are concerned."""

    __slots__ = (
        "answer",
        "binding",
        "bundles",
        "complete",
        "door",
        "keyed",
        "over",
        "refusal",
        "sent",
        "started",
    )

    def __init__(self) -> None:
        self.bundles: list[Bundle] = []
        self.binding: Binding | None = None
        self.started = False
        """The innermost middleware has passed on the start of the response."""
        self.complete = False
        """It has passed on the last byte."""
        self.sent = False
        """The last byte has passed the outermost middleware."""
        self.over = False
        self.refusal: PostludeError | None = None
        self.keyed = False
        """It carries an Idempotency-Key, so its answer goes into the commit that accepts its tasks."""
        self.answer: Answer | None = None
        """What is to be stored with the tasks that are accepted next, for a request that is repeated."""
        self.door: Door | None = None

    def fail(self) -> None:
        """Owe nothing: the request failed before its response started.

        Objects made by hand are let go; if an exception handler puts one into its response after
        all, it stores its tasks itself. What is bound, its session decides, and nothing is promised.
        """
        self.answer = None
        bound = [bundle for bundle in self.bundles if bundle.binding is not None]
        for bundle in self.bundles:
            if bundle.binding is not None:
                bundle.binding.late = True
            else:
                bundle.exchange = None
                bundle.wanted = False if bundle.wanted else None
        self.bundles[:] = bound

    def bind(self, bundle: Bundle, binding: Binding) -> None:
        """Let ``binding`` decide about all tasks of this request; they come in by ``bundle``."""
        self.binding = bundle.binding = binding
        self.bundles.append(bundle)

    @property
    def owes_more(self) -> bool:
        """Whether there is anything to store, or to make sure of, before the response goes on."""
        if self.binding is not None:
            return True
        for bundle in self.bundles:  # noqa: SIM110 - any() would take four times as long
            if bundle.is_fresh:
                return True
        return False

    async def accept(self) -> None:
        """Store what was added since the last call, in one commit; Refused when that fails.

        Of what is bound it makes sure that it is stored.
        """
        if self.binding is not None:
            await self._confirm(self.binding)
        fresh = [(b, len(b.rows)) for b in self.bundles if b.is_fresh]
        if not fresh:
            return
        rows = [row for bundle, end in fresh for row in bundle.rows[bundle.stored : end]]
        try:
            if self.door is None:
                self.door = await promises.door()
            await self.door.accept(rows, started=self.started, answer=self.answer)
        except PostludeError as error:
            self._refuse(error, rows)
            raise Refused(str(error)) from error
        except BaseException:
            if self.answer is not None:  # stored or not, it holds: see Door.accept
                self.refusal = AcceptUnknown("the request was cancelled", tuple(r.id for r in rows))
            raise
        self.answer = None
        for bundle, end in fresh:
            bundle.stored = end

    async def _confirm(self, binding: Binding) -> None:
        try:
            await binding.confirm()
        except PostludeError as error:
            self._refuse(error, binding.uncommitted)
            raise Refused(str(error)) from error

    def excuses(self, error: Exception) -> bool:
        """Say whether ``error`` is that the bound session could not store tasks: a refusal, then."""
        if self.started or self.binding is None or error is not self.binding.failure:
            return False
        self._refuse(self.binding.failure, self.binding.uncommitted)
        return True

    def _refuse(self, error: PostludeError, rows: list[NewTask]) -> None:
        ids = [row.id for row in rows]
        if isinstance(error, Answered):
            log.info("request.repeated", task_ids=ids)
        else:
            log.warning("task.refused", code=error.code, task_ids=ids, error=str(error))
        self.refusal = error
        if not self.started:
            self.fail()

    def release_early(self) -> None:
        """Once the response is out, release what need not wait for tasks that run in process."""
        if self.sent and any(b.wanted and b.in_process.tasks for b in self.bundles):
            self.release()

    def finish(self) -> None:
        """Settle all that was accepted; the request is over. Neither waits nor fails."""
        self.over = True
        if not self.bundles:
            return
        if self.binding is not None:
            self.binding.end()
        self.release()
        if self.door and (unwanted := self._take(wanted=False)):
            self.door.withdraw(unwanted)

    def release(self) -> None:
        """Let run what was accepted and is wanted. May be called by any thread, and again."""
        if self.door and (wanted := self._take(wanted=True)):
            self.door.release(wanted)

    def _take(self, *, wanted: bool) -> list[str]:
        ids: list[str] = []
        for bundle in self.bundles:
            end = bundle.stored  # a bound session may commit more meanwhile
            if end > bundle.settled and bool(bundle.wanted) is wanted:
                ids += [row.id for row in bundle.rows[bundle.settled : end]]
                bundle.settled = end
        return ids
