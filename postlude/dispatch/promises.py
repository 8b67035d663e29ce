"""What this process owes: tasks that it accepted, and what becomes of them.

A promise is noted in memory before the ledger hears of it and forgotten once the ledger has
confirmed its release or withdrawal. So a failed write, a full queue or a cancelled request leaves a
note behind, and :meth:`Promises.audit` makes good on it. What a dead process owed, relays release.
"""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from enum import Enum, auto
from functools import partial
from typing import TYPE_CHECKING

import structlog

from postlude import process
from postlude.dispatch import answers
from postlude.dispatch.waiting import Signal, soon
from postlude.door import Door, stand_in
from postlude.errors import AcceptUnknown, BadOptions, LedgerBusy, LedgerError
from postlude.ledger import guest
from postlude.ledger.clock import now
from postlude.ledger.gathering import Gathering
from postlude.ledger.queries.tasks import absent, accepted_by
from postlude.ledger.transitions import accept, key, release
from postlude.settings import settings

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Sequence

    from sqlalchemy import Connection

    from postlude.ledger.key import Answer, KeptAnswer
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


_TRANSITIONS = {_Due.RELEASE: release.release_all, _Due.WITHDRAW: release.withdraw_all}


class Taken(BadOptions):
    """A message that was added is another task already, which has this ``id``."""

    def __init__(self, message: str, id_: str) -> None:
        super().__init__(message)
        self.id = id_


class _Entry:
    """The tasks of one request on their way into the ledger."""

    __slots__ = ("answer", "earlier", "error", "ids", "left", "over", "own", "signal", "tasks")

    def __init__(
        self, tasks: Sequence[NewTask], answer: Answer | None, noted: Container[str]
    ) -> None:
        self.tasks = tasks
        self.answer = answer
        self.earlier: KeptAnswer | None = None
        """What another request with the same key was answered; then nothing was stored."""
        self.ids = [task.id for task in tasks]
        self.own = [id_ for id_ in self.ids if id_ not in noted]
        """Those that no other request has promised: a message that is added again is still its task."""
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
        self._reader = ThreadPoolExecutor(1, "ledger-reader")
        """A thread of its own: those of the application may all wait for what is committed here."""
        gathering = partial(Gathering, self._ledger, strikes_all=(LedgerError,), soon=soon)
        self._accepts: Gathering[_Entry, None] = gathering(
            self._store, self._stored, capacity=owner.settings.write_queue
        )
        self._moves: dict[_Due, Gathering[str, None]] = {
            due: gathering(partial(self._move, transition), self._moved)
            for due, transition in _TRANSITIONS.items()
        }

    @property
    def is_past(self) -> bool:
        """Say whether this process has a new life, or is a fork of the one that promised."""
        return self.process.ended or self.process.pid != os.getpid()

    async def accept(
        self, tasks: Sequence[NewTask], *, started: bool, answer: Answer | None = None
    ) -> None:
        """Store ``tasks``, all or none, for this incarnation; see :class:`postlude.door.Door`."""
        self._ledger.must_fit()
        entry = _Entry(tasks, answer, self._due)
        due = _Due.RELEASE if started or answer is not None else _Due.WITHDRAW
        for id_ in entry.own:
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
            self._forget(entry.own)
            raise entry.error.with_traceback(None)  # others raise the same one
        if entry.answer is not None and entry.earlier is not None:
            self._forget(entry.own)
            answers.compare(entry.earlier, entry.answer.fingerprint)
            raise answers.Answered(entry.earlier)
        # A request that had added the same message first may have given it up meanwhile.
        for id_ in entry.ids:
            self._due.setdefault(id_, _Due.OPEN)

    def release(self, ids: Sequence[str]) -> None:
        """Queue accepted tasks. Never waits or fails; replayed by the audit until confirmed."""
        self._settle(ids, _Due.RELEASE)

    def withdraw(self, ids: Sequence[str]) -> None:
        """Cancel accepted tasks. Never waits or fails; replayed by the audit until confirmed."""
        self._settle(ids, _Due.WITHDRAW)

    def accept_within(self, tasks: Sequence[NewTask], lend: Callable[[], Connection]) -> None:
        """Store ``tasks`` in a transaction that is not ours; see :class:`postlude.door.Door`.

        Noted first, so that no audit takes them for strangers, whenever the commit comes.
        """
        fresh = [task.id for task in tasks if task.id not in self._due]
        for id_ in fresh:
            self._due[id_] = _Due.OPEN
        try:
            with guest.visit(lend(), self.process.settings) as tx:
                self._insert(tx, tasks)
        except Taken as error:
            if error.id in fresh:
                self._forget([error.id])
            raise

    def doubt(self, ids: Sequence[str]) -> None:
        """Release what is there of tasks whose transaction ended, or seems to have.

        A cancelled commit can reach the disk all the same. The transaction has the write lock until
        it is over, so the statement that releases comes after it and knows.
        """
        self._settle(ids, _Due.RELEASE)

    async def missing(self, ids: Sequence[str]) -> list[str]:
        """Return those of ``ids`` that are not in the ledger. Raises LedgerError."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._reader, self._missing, ids)

    def _missing(self, ids: Sequence[str]) -> list[str]:
        with self._ledger.read() as connection:
            return absent(connection, ids)

    def look(self) -> None:
        """Do what is to be done every few seconds, off the way of any request."""
        keep_what_is_loaded()
        self.audit()

    def audit(self) -> None:
        """Hold the ledger against these notes; the process does it every few seconds.

        What could not be settled is settled again. A task that the ledger says is ours and that no
        note mentions in two audits running is withdrawn: its request was told that it failed.
        Raises LedgerError when the ledger does not answer; the next audit then does the work.
        """
        self._accepts.announce()  # what a loop that was closed has left unannounced
        for moves in self._moves.values():
            moves.announce()
        noted = dict(self._due)
        with self._ledger.read() as connection:
            owed = frozenset(accepted_by(connection, self._owner))
        for due in (_Due.RELEASE, _Due.WITHDRAW):
            self._settle([id_ for id_ in noted if noted[id_] is due and id_ not in self._told], due)
        strangers = owed.difference(noted)
        self._settle(sorted(strangers & self._strangers), _Due.WITHDRAW)
        self._strangers = strangers

    def _store(self, tx: Tx, entries: Sequence[_Entry]) -> None:
        for entry in entries:
            if entry.answer is not None:
                entry.earlier = key.keep(tx, entry.answer, task=entry.ids[0])
        self._insert(tx, [task for entry in entries if not entry.earlier for task in entry.tasks])

    def _insert(self, tx: Tx, tasks: Sequence[NewTask]) -> None:
        taken = accept.accept_all(tx, tasks, owner=self._owner)
        if taken is not None:
            raise _taken(taken)

    def _stored(self, entries: Sequence[_Entry], _: None, error: BaseException | None) -> None:
        for entry in entries:
            entry.error, entry.over = error, True
            if entry.left is None:
                entry.signal.set()
            else:
                self._settle(entry.own, entry.left)  # if it failed, there is nothing to settle

    def _give_up(self, entry: _Entry, due: _Due) -> LedgerError:
        limit = f"{self._limit_s:g} s"
        if self._leave(entry, due):
            return LedgerBusy(f"the ledger did not get to it within {limit}; nothing was accepted")
        message = f"the ledger did not confirm within {limit}; ask for the tasks by their ids"
        if entry.answer is not None:
            message += ", or send this again with the same Idempotency-Key"
        return AcceptUnknown(message, tuple(entry.ids))

    def _leave(self, entry: _Entry, due: _Due) -> bool:
        """Stop waiting for ``entry``: True if it will never be stored, else it ends as ``due``."""
        if self._accepts.take_back(entry):
            self._forget(entry.own)
            return True
        entry.left = due
        if entry.over:  # meanwhile; if the writer has seen to it too, the second time does nothing
            self._settle(entry.own, due)
        return False

    def _settle(self, ids: Sequence[str], due: _Due) -> None:
        for id_ in ids:
            self._due[id_] = due
            self._told.add(id_)
            self._moves[due].add(id_)

    def _move(self, transition: Callable[..., object], tx: Tx, ids: Sequence[str]) -> None:
        transition(tx, ids, owner=self._owner, now=now())

    def _moved(self, ids: Sequence[str], _: None, error: BaseException | None) -> None:
        self._told.difference_update(ids)
        if error is None:
            self._forget(ids)
        else:
            log.warning("promises.unsettled", task_ids=ids, reason=str(error))

    def _forget(self, ids: Sequence[str]) -> None:
        for id_ in ids:
            self._due.pop(id_, None)


def keep_what_is_loaded() -> None:
    """Take what there is by now, an app and its libraries, out of Python's search for garbage.

    It outlives every request, and looking through all of it took 55 ms, three times a second under
    load: requests that wait for a commit are many, and their objects hold out until such a search.
    Does nothing where somebody has frozen objects already.
    """
    if not gc.get_freeze_count():
        gc.collect()
        gc.freeze()


_lock = threading.Lock()
_promises: Promises | None = None
_serves = False


async def door() -> Door:
    """Return the door for a task that is added now: this process's ledger, unless a test stands in.

    Opens the ledger on first use, in another thread since the database may keep it waiting; raises
    LedgerError or SettingsError when that fails.
    """
    found = open_door()
    if found is not None:
        return found
    limit_s = settings().write_timeout.total_seconds()
    try:
        return await asyncio.wait_for(asyncio.to_thread(_open), limit_s)
    except (TimeoutError, AcceptUnknown):  # unknown is only whether our incarnation is on record
        raise _not_open(limit_s) from None


def open_door() -> Door | None:
    """Return the door if it is open already: None before the first task of this process's life."""
    test = stand_in()
    if test is not None:
        return test
    found = _promises
    return None if found is None or found.is_past else found


def await_tasks() -> None:
    """Note that requests are served here: this process will need the ledger, sooner or later."""
    global _serves  # noqa: PLW0603 # true of a process as a whole
    if stand_in() is None:
        _serves = True


def is_awaited() -> bool:
    """Say whether the door is not open yet, and requests are served here that may want it."""
    return _serves and open_door() is None


def open_for(connection: Connection) -> Door:
    """Return the door for what ``connection`` writes, opening it if need be; raises as :func:`door`.

    To be called before it has the write lock: a life that begins is written into the ledger.
    """
    found = open_door()
    if found is not None:
        return found
    adapted = connection.connection.dbapi_connection
    run_async = getattr(adapted, "run_async", None)  # an event loop must not stand still meanwhile
    opened: Door = run_async(lambda _driver: door()) if run_async else open_now()
    return opened


def open_now() -> Door:
    """Return the door, opening it in this thread; raises as :func:`door` does."""
    try:
        return open_door() or _open()
    except AcceptUnknown:
        raise _not_open(settings().write_timeout.total_seconds()) from None


def _open() -> Promises:
    """Return the promises of this process; after a fork or a close, they are made anew with it."""
    global _promises  # noqa: PLW0603 # they live and die with the process
    process.assume("api")
    owner = process.current()
    with _lock:
        if _promises is None or _promises.process is not owner:
            _promises = Promises(owner)
            owner.tend(_promises.look)
        return _promises


def _not_open(limit_s: float) -> LedgerBusy:
    return LedgerBusy(f"the ledger could not be opened within {limit_s:g} s; nothing was accepted")


def _taken(task: NewTask) -> Taken:
    message = (
        f"there is a task {task.id} already; add a message once, or build a new one with"
        f" {task.actor}.message(…)"
    )
    return Taken(message, task.id)
