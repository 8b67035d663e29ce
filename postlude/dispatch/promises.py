"""What this process owes: tasks that it accepted, and what becomes of them.

A promise is noted in memory before the ledger hears of it and forgotten once the ledger has
confirmed its release or withdrawal. So a failed write, a full queue or a cancelled request leaves a
note behind, and :meth:`Promises.audit` makes good on it. What a dead process owed, relays release.
"""

from __future__ import annotations

import asyncio
import os
import threading
from enum import Enum, auto
from functools import partial
from typing import TYPE_CHECKING

import structlog

from postlude import process
from postlude.dispatch.gathering import Gathering
from postlude.dispatch.waiting import Signal
from postlude.door import Door, stand_in
from postlude.errors import AcceptUnknown, BadOptions, LedgerBusy, LedgerError
from postlude.ledger.clock import now
from postlude.ledger.queries.tasks import accepted_by
from postlude.ledger.transitions import accept, release
from postlude.settings import settings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from postlude.ledger.statement import Tx
    from postlude.ledger.task import NewTask
    from postlude.process import Process

log = structlog.get_logger()


class _Due(Enum):
    """What is to become of an accepted task."""

    OPEN = auto()
    """Its request is under way and will say."""
    RELEASE = auto()
    WITHDRAW = auto()


class _Entry:
    """The tasks of one request on their way into the ledger."""

    __slots__ = ("error", "ids", "left", "over", "signal", "tasks")

    def __init__(self, tasks: Sequence[NewTask]) -> None:
        self.tasks = tasks
        self.ids = tuple(task.id for task in tasks)
        self.signal = Signal()
        self.error: BaseException | None = None
        self.over = False
        """They are stored, or never will be."""
        self.left: _Due | None = None
        """What is to become of them if they are stored, since their request waits no longer."""


class Promises:
    """The promises of one incarnation, and the door in front of its ledger."""

    def __init__(self, owner: Process) -> None:
        self.process = owner
        self._ledger = owner.ledger
        self._owner = owner.incarnation.id
        self._limit_s = owner.settings.write_timeout.total_seconds()
        self._due: dict[str, _Due] = {}
        self._told: set[str] = set()
        self._strangers: frozenset[str] = frozenset()
        self._accepts = Gathering(
            self._ledger, self._store, self._stored, capacity=owner.settings.write_queue
        )
        self._moves = {
            _Due.RELEASE: Gathering(
                self._ledger, partial(self._move, release.release), self._moved
            ),
            _Due.WITHDRAW: Gathering(
                self._ledger, partial(self._move, release.withdraw), self._moved
            ),
        }

    @property
    def is_past(self) -> bool:
        """Say whether this process has a new life, or is a fork of the one that promised."""
        return self.process.ended or self.process.pid != os.getpid()

    async def accept(self, tasks: Sequence[NewTask], *, started: bool) -> None:
        """Store ``tasks``, all or none, for this incarnation; see :class:`postlude.door.Door`."""
        entry = _Entry(tasks)
        due = _Due.RELEASE if started else _Due.WITHDRAW
        for id_ in entry.ids:
            self._due[id_] = _Due.OPEN
        self._accepts.add(entry)
        try:
            in_time = await entry.signal.wait(within_s=self._limit_s)
        except BaseException:  # the request was cancelled; its server may never come back to it
            self._leave(entry, due)
            raise
        if not in_time:
            raise self._give_up(entry, due)
        if entry.error is not None:
            self._forget(entry.ids)
            raise entry.error.with_traceback(None)  # others raise the same one

    def release(self, ids: Sequence[str]) -> None:
        """Queue accepted tasks. Never waits or fails; replayed by the audit until confirmed."""
        self._settle(ids, _Due.RELEASE)

    def withdraw(self, ids: Sequence[str]) -> None:
        """Cancel accepted tasks. Never waits or fails; replayed by the audit until confirmed."""
        self._settle(ids, _Due.WITHDRAW)

    def audit(self) -> None:
        """Hold the ledger against these notes; the process does it every few seconds.

        What could not be settled is settled again. A task that the ledger says is ours and that no
        note mentions in two audits running is withdrawn: its request was told that it failed.
        Raises LedgerError when the ledger does not answer; the next audit then does the work.
        """
        noted = dict(self._due)
        with self._ledger.read() as connection:
            owed = frozenset(accepted_by(connection, self._owner))
        for due in (_Due.RELEASE, _Due.WITHDRAW):
            late = [id_ for id_ in noted if noted[id_] is due and id_ not in self._told]
            self._forget([id_ for id_ in late if id_ not in owed])
            self._settle([id_ for id_ in late if id_ in owed], due)
        strangers = owed.difference(noted)
        self._settle(sorted(strangers & self._strangers), _Due.WITHDRAW)
        self._strangers = strangers

    def _store(self, tx: Tx, entries: Sequence[_Entry]) -> None:
        for entry in entries:
            for task in entry.tasks:
                if not accept.accept(tx, task, owner=self._owner):
                    raise _taken(task)

    def _stored(self, entries: Sequence[_Entry], error: BaseException | None) -> None:
        for entry in entries:
            entry.error, entry.over = error, True
            if entry.left is None:
                entry.signal.set()
            else:
                self._settle(entry.ids, entry.left)  # if it failed, there is nothing to settle

    def _give_up(self, entry: _Entry, due: _Due) -> LedgerError:
        limit = f"{self._limit_s:g} s"
        if self._leave(entry, due):
            return LedgerBusy(f"the ledger did not get to it within {limit}; nothing was accepted")
        message = f"the ledger did not confirm within {limit}; ask for the tasks by their ids"
        return AcceptUnknown(message, entry.ids)

    def _leave(self, entry: _Entry, due: _Due) -> bool:
        """Stop waiting for ``entry``: True if it will never be stored, else it ends as ``due``."""
        if self._accepts.take_back(entry):
            self._forget(entry.ids)
            return True
        entry.left = due
        if entry.over:  # meanwhile; if the writer has seen to it too, the second time does nothing
            self._settle(entry.ids, due)
        return False

    def _settle(self, ids: Sequence[str], due: _Due) -> None:
        for id_ in ids:
            self._due[id_] = due
            self._told.add(id_)
            self._moves[due].add(id_)

    def _move(self, transition: Callable[..., bool], tx: Tx, ids: Sequence[str]) -> None:
        at = now()
        for id_ in ids:
            transition(tx, id_, owner=self._owner, now=at)

    def _moved(self, ids: Sequence[str], error: BaseException | None) -> None:
        self._told.difference_update(ids)
        if error is None:
            self._forget(ids)
        else:
            log.warning("promises.unsettled", task_ids=ids, reason=str(error))

    def _forget(self, ids: Sequence[str]) -> None:
        for id_ in ids:
            self._due.pop(id_, None)


_lock = threading.Lock()
_promises: Promises | None = None


async def door() -> Door:
    """Return the door for a task that is added now: this process's ledger, unless a test stands in.

    Opens the ledger on first use, in another thread since the database may keep it waiting; raises
    LedgerError or SettingsError when that fails.
    """
    test = stand_in()
    if test is not None:
        return test
    if _promises is not None and not _promises.is_past:
        return _promises
    limit_s = settings().write_timeout.total_seconds()
    try:
        return await asyncio.wait_for(asyncio.to_thread(_open), limit_s)
    except (TimeoutError, AcceptUnknown):  # unknown is only whether our incarnation is on record
        message = f"the ledger could not be opened within {limit_s:g} s; nothing was accepted"
        raise LedgerBusy(message) from None


def _open() -> Promises:
    """Return the promises of this process; after a fork or a close, they are made anew with it."""
    global _promises  # noqa: PLW0603 # they live and die with the process
    process.assume("api")
    owner = process.current()
    with _lock:
        if _promises is None or _promises.process is not owner:
            _promises = Promises(owner)
            owner.tend(_promises.audit)
        return _promises


def _taken(task: NewTask) -> BadOptions:
    message = (
        f"there is a task {task.id} already; add a message once, or build a new one with"
        f" {task.actor}.message(…)"
    )
    return BadOptions(message)
