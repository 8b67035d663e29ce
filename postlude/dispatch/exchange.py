"""What one HTTP request owes: the tasks that it has added, and how far its response is.

The middlewares move it along, ``BackgroundTasks`` objects put tasks in. Endpoints in threads only
append; what is taken out is counted, never removed, so nothing that is added meanwhile gets lost.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

import structlog

from postlude.dispatch import promises
from postlude.errors import BadOptions, PostludeError

if TYPE_CHECKING:
    from starlette.background import BackgroundTasks as InProcess

    from postlude.door import Door
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
    """

    __slots__ = ("exchange", "in_process", "rows", "settled", "stored", "wanted")

    def __init__(
        self, exchange: Exchange | None, in_process: InProcess, *, wanted: bool | None = None
    ) -> None:
        self.exchange = exchange
        self.in_process = in_process
        self.wanted = wanted
        self.rows: list[NewTask] = []
        self.stored = 0
        self.settled = 0

    def add(self, task: NewTask) -> None:
        """Note ``task``. Raises RuntimeError when its request has failed or is over."""
        exchange = self.exchange
        if self.wanted is False or (exchange is not None and exchange.over):
            fate = "failed" if self.wanted is False else "ended"
            message = (
                f"a task for actor {task.actor!r} was added when its request had {fate} already;"
                f" use {task.actor}.send() there"
            )
            raise RuntimeError(message)
        if any(row.id == task.id for row in self.rows):
            message = (
                f"task {task.id} was added already; add a message once, or build a new one with"
                f" {task.actor}.message(…)"
            )
            raise BadOptions(message)
        self.rows.append(task)
        if exchange is not None and len(self.rows) == 1:
            exchange.bundles.append(self)

    def fail(self) -> None:
        """Drop everything: the request failed before its response started."""
        self.wanted = False
        if self.exchange is not None:
            self.exchange.fail()


class Exchange:
    """One request and its response, as far as durable tasks are concerned."""

    __slots__ = ("_door", "bundles", "complete", "over", "refusal", "sent", "started")

    def __init__(self) -> None:
        self.bundles: list[Bundle] = []
        self.started = False
        """The innermost middleware has passed on the start of the response."""
        self.complete = False
        """It has passed on the last byte."""
        self.sent = False
        """The last byte has passed the outermost middleware."""
        self.over = False
        self.refusal: PostludeError | None = None
        self._door: Door | None = None

    def fail(self) -> None:
        """Owe nothing: the request failed before its response started.

        Objects made by hand are let go; if an exception handler puts one into its response after
        all, it stores its tasks itself.
        """
        for bundle in self.bundles:
            bundle.exchange = None
            bundle.wanted = False if bundle.wanted else None
        self.bundles.clear()

    async def accept(self) -> None:
        """Store what was added since the last call, in one commit; Refused when that fails."""
        fresh = [(b, len(b.rows)) for b in self.bundles if len(b.rows) > b.stored]
        if not fresh:
            return
        rows = [row for bundle, end in fresh for row in bundle.rows[bundle.stored : end]]
        try:
            if self._door is None:
                self._door = await promises.door()
            await self._door.accept(rows, started=self.started)
        except PostludeError as error:
            self._refuse(error, rows)
            raise Refused(str(error)) from error
        for bundle, end in fresh:
            bundle.stored = end

    def _refuse(self, error: PostludeError, rows: list[NewTask]) -> None:
        ids = [row.id for row in rows]
        log.warning("task.refused", code=error.code, task_ids=ids, error=str(error))
        self.refusal = error
        if not self.started:
            self.fail()

    def release_early(self) -> None:
        """Once the response is out, release what need not wait for tasks that run in process."""
        if self.sent and any(b.wanted and b.in_process.tasks for b in self.bundles):
            self._release()

    def finish(self) -> None:
        """Settle all that was accepted; the request is over. Neither waits nor fails."""
        self.over = True
        if not self.bundles:
            return
        self._release()
        unwanted = self._take(wanted=False)
        if unwanted and self._door:
            self._door.withdraw(unwanted)

    def _release(self) -> None:
        wanted = self._take(wanted=True)
        if wanted and self._door:
            self._door.release(wanted)

    def _take(self, *, wanted: bool) -> list[str]:
        ids: list[str] = []
        for bundle in self.bundles:
            if bool(bundle.wanted) is wanted and bundle.stored > bundle.settled:
                ids += [row.id for row in bundle.rows[bundle.settled : bundle.stored]]
                bundle.settled = bundle.stored
        return ids
