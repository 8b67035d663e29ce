"""Tasks that a session is to carry: which of its transactions and savepoints each stands or falls with.

Bookkeeping alone; transactions are told apart and nothing else is asked of them. Every method says
what SQLAlchemy has reported. A thread may add a task while another one commits.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.orm import SessionTransaction

    from postlude.ledger.task import NewTask


class Note:
    """A task that no commit has decided about yet.

    ``added_in`` is the transaction or savepoint that was open, None if none was: the next one.
    ``stored_in`` is where its row was written, None if it is not written (any more).
    """

    __slots__ = ("added_in", "stored_in", "task")

    def __init__(self, task: NewTask, added_in: SessionTransaction | None) -> None:
        self.task = task
        self.added_in = added_in
        self.stored_in: SessionTransaction | None = None


class Notes:
    """The tasks of one session, from :meth:`add` to the commit or the rollback that decides."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        """Held where the list of open notes is replaced: what is added meanwhile must be in the new one."""
        self._open: list[Note] = []
        self._dropped: list[NewTask] = []
        """What went down with the open transaction, though nobody has rolled it back so far."""
        self._abandoned: list[NewTask] = []
        """What went down with a transaction that was neither committed nor rolled back: closed."""

    @property
    def pending(self) -> bool:
        """Whether a commit could still store something."""
        return bool(self._open)

    @property
    def uncommitted(self) -> list[NewTask]:
        """What was neither committed nor rolled back."""
        return [*self._abandoned, *(note.task for note in self._open)]

    @property
    def unwritten(self) -> list[Note]:
        """What has no row so far."""
        return [note for note in self._open if note.stored_in is None]

    def add(self, task: NewTask, where: SessionTransaction | None) -> None:
        """Note ``task`` for the innermost open transaction; None: for the next one."""
        with self._lock:
            self._open.append(Note(task, where))

    def written(self, notes: Iterable[Note], where: SessionTransaction | None) -> None:
        """Note that the rows of ``notes`` were written there."""
        for note in notes:
            note.stored_in = where

    def begun(self, transaction: SessionTransaction) -> None:
        """Give to the outermost ``transaction`` what has waited for one."""
        for note in self._open:
            note.added_in = note.added_in or transaction

    def released(self, savepoint: SessionTransaction, around: SessionTransaction | None) -> None:
        """Give what ``savepoint`` has to the transaction around it: its release alone stores nothing."""
        for note in self._open:
            note.added_in = around if note.added_in is savepoint else note.added_in
            note.stored_in = around if note.stored_in is savepoint else note.stored_in

    def committed(self) -> list[NewTask]:
        """Return what the outermost transaction has committed; what it has not is for the next."""
        with self._lock:
            stored = [note.task for note in self._open if note.stored_in is not None]
            self._open = self.unwritten
            for note in self._open:
                note.added_in = None
        return stored

    def rolled_back(self, transaction: SessionTransaction | None) -> None:
        """Drop what falls with ``transaction``, as somebody or a flush that failed wants it."""
        self._drop(transaction)
        if transaction is None or transaction.parent is None:
            self._dropped.clear()

    def ended(self, transaction: SessionTransaction) -> None:
        """Drop what is left of ``transaction``: it was closed, and nobody has said why."""
        self._dropped += self._drop(transaction)
        if transaction.parent is None:
            self._abandoned += self._dropped
            self._dropped.clear()

    def _drop(self, transaction: SessionTransaction | None) -> list[NewTask]:
        with self._lock:
            gone = [note.task for note in self._open if note.added_in is transaction]
            self._open = [note for note in self._open if note.added_in is not transaction]
        for note in self._open:
            note.stored_in = None if note.stored_in is transaction else note.stored_in
        return gone
