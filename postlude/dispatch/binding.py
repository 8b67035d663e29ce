"""A request's tasks in a session of the application's own: its outermost commit decides about them.

Tasks are noted when they are added, because an ``AsyncSession`` can do nothing there, and stored when
the session flushes or commits. SQLAlchemy's word that it has committed is enough to release, which is
guarded; for the promise to the client the ledger itself is asked.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import event

from postlude.dispatch import promises
from postlude.dispatch.notes import Notes
from postlude.errors import AcceptUnknown, BadOptions, LedgerError, NotCommitted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import Connection, Engine
    from sqlalchemy.orm import Session, SessionTransaction

    from postlude.dispatch.exchange import Bundle
    from postlude.door import Door
    from postlude.ledger.task import NewTask

log = structlog.get_logger()

KEY = "postlude.binding"
"""Where ``Session.info`` has the binding."""
_LISTENERS = {
    "after_transaction_create": "_on_begin",
    "before_commit": "_on_commit",
    "after_flush": "_on_flush",
    "after_commit": "_on_committed",
    "after_rollback": "_on_rollback",
    "after_transaction_end": "_on_end",
}


class Binding:
    """One session that carries the tasks of one request; used by whoever uses the session.

    ``bind`` is the engine or connection by which the session reaches the ledger, ``late`` says that
    nothing is promised to the client: the session may commit when it likes.
    """

    def __init__(
        self, bundle: Bundle, session: Session, bind: Engine | Connection | None, *, late: bool
    ) -> None:
        self.session = session
        self.late = late
        self.failure: LedgerError | None = None
        """Why the tasks could not be stored the last time it was tried."""
        self._bundle = bundle
        self._bind = bind
        self._notes = Notes()
        self._tried: dict[str, Door] = {}
        """Where it was tried to store tasks that no commit has confirmed."""
        self._confirmed = 0
        self._refused = False
        weakref.finalize(self, _doubt, self._tried).atexit = False

    @property
    def uncommitted(self) -> list[NewTask]:
        """The tasks that were neither committed nor rolled back."""
        return self._notes.uncommitted

    @property
    def is_open(self) -> bool:
        """Whether the request is still under way."""
        exchange = self._bundle.exchange
        return exchange is not None and not exchange.over

    def listen(self) -> None:
        """Begin to follow the session."""
        self.session.info[KEY] = self
        for name, method in _LISTENERS.items():
            event.listen(self.session, name, getattr(self, method))

    def let_go(self) -> None:
        """Follow the session no longer, unless something is pending in it."""
        if self._notes.pending or self.session.info.get(KEY) is not self:
            return
        del self.session.info[KEY]
        for name, method in _LISTENERS.items():
            event.remove(self.session, name, getattr(self, method))

    def check(self, task: NewTask) -> None:
        """Raise BadOptions for a task that is among those of this request already."""
        if any(task.id == other.id for other in (*self.uncommitted, *self._bundle.rows)):
            message = (
                f"task {task.id} was added already; add a message once, or build a new one with"
                f" {task.actor}.message(…)"
            )
            raise BadOptions(message)

    def note(self, task: NewTask) -> None:
        """Have ``task`` stored with the session's open transaction or savepoint.

        If none is open, one is begun, as by ``session.add()``, so that a rollback always counts; a
        session that begins none by itself has it stored with its next.
        """
        if self.session.autobegin and not self.session.in_transaction():
            self.session.begin()
        self._notes.add(task, self._innermost())

    async def confirm(self) -> None:
        """Make sure that the ledger has what the response is about to promise.

        Raises NotCommitted, and then the session cannot commit what is open in it any more;
        AcceptUnknown when the ledger does not answer.
        """
        if self.late:
            return
        if self.uncommitted:
            self._refused = True
            raise _not_committed(self.uncommitted)
        fresh = [task.id for task in self._bundle.rows[self._confirmed :]]
        door = promises.open_door()
        if fresh and door is not None:
            await _see(door, fresh)
            self._confirmed += len(fresh)

    def end(self) -> None:
        """Note that the request is over: what is committed from now on is released at once."""
        self.let_go()
        if self.uncommitted and not self._refused:
            ids = [task.id for task in self.uncommitted]
            log.warning("task.uncommitted", task_ids=ids, hint="their session did not commit them")

    def _innermost(self) -> SessionTransaction | None:
        return self.session.get_nested_transaction() or self.session.get_transaction()

    def _on_begin(self, _session: Session, transaction: SessionTransaction) -> None:
        if transaction.parent is None:
            self._notes.begun(transaction)

    def _on_commit(self, _session: Session) -> None:
        """Store what is noted, before a savepoint's end, too: only SQLAlchemy knows which is last."""
        if self._refused and self._notes.pending:
            raise _not_committed(self.uncommitted)
        self._store()

    def _on_flush(self, _session: Session, _context: object) -> None:
        self._store()

    def _store(self) -> None:
        """Write the rows that are not written yet. May be called again after it has failed."""
        fresh = self._notes.unwritten
        if not fresh:
            return
        here = self._innermost()
        self.failure = None
        try:
            door = promises.open_door() or promises.open_for(self._connection())
            self._tried.update((note.task.id, door) for note in fresh)
            door.accept_within([note.task for note in fresh], self._connection)
        except LedgerError as error:
            self.failure = error
            raise
        except promises.Taken as error:
            self._tried.pop(error.id, None)  # what becomes of that is another request's affair
            raise
        self._notes.written(fresh, here)

    def _connection(self) -> Connection:
        return self.session.connection(bind_arguments={"bind": self._bind})

    def _on_committed(self, _session: Session) -> None:
        transaction = self._innermost()
        if transaction is not None and transaction.nested:
            self._notes.released(transaction, _around(transaction))
            return
        for task in self._notes.committed():
            self._bundle.owe(task, self._tried.pop(task.id))
        exchange = self._bundle.exchange
        if exchange is not None and exchange.over:
            exchange.release()

    def _on_rollback(self, _session: Session) -> None:
        self._notes.rolled_back(self._innermost())

    def _on_end(self, _session: Session, transaction: SessionTransaction) -> None:
        self._notes.ended(transaction)
        if transaction.parent is None:
            _doubt(self._tried)


def _around(savepoint: SessionTransaction) -> SessionTransaction | None:
    """Return the transaction or savepoint around ``savepoint``, past what a flush has put between."""
    found = savepoint.parent
    while found is not None and found.parent is not None and not found.nested:
        found = found.parent
    return found


async def _see(door: Door, ids: Sequence[str]) -> None:
    try:
        missing = await door.missing(ids)
    except LedgerError as error:
        message = f"the tasks' session has committed, but the ledger could not be asked: {error}"
        raise AcceptUnknown(message, tuple(ids)) from error
    if missing:
        message = (
            f"the session says that it has committed tasks {', '.join(missing)}, and the ledger does"
            " not have them: it has joined a transaction that others have not committed; bind a"
            " session that commits by itself"
        )
        raise NotCommitted(message)


def _not_committed(tasks: Iterable[NewTask]) -> NotCommitted:
    named = ", ".join(f"{task.actor} {task.id}" for task in tasks)
    message = (
        "the response starts, and these tasks are bound to a session that has not committed them:"
        f" {named}; commit or roll back before you return, let the session's dependency commit in"
        " time with Depends(get_session, scope='function'), or waive the promise to the client with"
        " bind(session, late=True)"
    )
    return NotCommitted(message)


def _doubt(tried: dict[str, Door]) -> None:
    """Leave to the ledger what became of tasks whose transaction is over, one way or the other."""
    while tried:
        id_, door = tried.popitem()
        door.doubt([id_])
