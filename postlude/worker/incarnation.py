"""One life of one process: on record in the ledger, proven by a heartbeat and a lock that dies with it.

The lock file tells every process of the same machine at once and beyond doubt whether this one is
gone: the kernel drops the lock with the process. Elsewhere only the heartbeat counts. Dead is final:
an incarnation that somebody has buried never writes again; its process starts a new one.
"""

from __future__ import annotations

import fcntl
import os
import socket
import threading
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
import uuid_utils

from postlude.errors import LedgerError
from postlude.ledger import clock
from postlude.ledger.transitions import bury
from postlude.ledger.transitions import incarnation as transitions
from postlude.worker import board

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import timedelta
    from typing import IO

    from postlude.ledger.engine import BareConnection
    from postlude.ledger.ledger import Ledger

log = structlog.get_logger()


def hostname() -> str:
    """Return the name of this machine, as incarnations carry it."""
    return socket.gethostname()


def lock_path(folder: Path, incarnation_id: str) -> Path:
    """Return where the lock file of an incarnation lies."""
    return folder / f"{incarnation_id}.lock"


class Incarnation:
    """Appears in the ledger when made, beats until :meth:`leave` or until it is found dead."""

    def __init__(
        self, ledger: Ledger, *, kind: str, queues: Iterable[str], version: str, folder: Path
    ) -> None:
        self.id = str(uuid_utils.uuid7())
        self.kind = kind
        self.dead = threading.Event()
        self._ledger = ledger
        self._path = lock_path(folder, self.id)
        self._lock, self._board = _locked(self._path)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        appear = partial(
            transitions.appear,
            incarnation=self.id,
            kind=kind,
            host=hostname(),
            pid=os.getpid(),
            version=version,
            queues=queues,
            now=clock.now(),
        )
        try:
            ledger.write(appear)
        except BaseException:
            self._unlock()
            raise

    def start(
        self, every: timedelta, on_death: Callable[[], None], on_outgrown: Callable[[], None]
    ) -> None:
        """Beat in a thread of its own; ``on_death`` is called once if somebody buried us.

        ``on_outgrown`` is called when the ledger has become too new for this code. The heart beats on:
        what is in hand is still to be finished.
        """
        calls = (on_death, on_outgrown)
        self._thread = threading.Thread(
            target=self._beat, args=(every.total_seconds(), *calls), name="heart", daemon=True
        )
        self._thread.start()

    def board(self) -> board.Board:
        """Return where this life notes what its threads begin; whoever buries it goes by that from now on."""
        self._board.open()
        return self._board

    def leave(self) -> None:
        """Stop beating, give back whatever is still held or owed, and go on record as stopped.

        If the ledger does not answer, others will find that we are gone, and say so.
        """
        self._stop.set()
        if self._thread and self._thread is not threading.current_thread():
            self._thread.join(5)
        try:
            if not self.dead.is_set():
                self._ledger.write(partial(bury.leave, incarnation=self.id, now=clock.now()))
        except LedgerError as error:
            log.warning("incarnation.left_unrecorded", incarnation=self.id, error=str(error))
        self._unlock()

    def _unlock(self) -> None:
        with suppress(OSError):  # a folder that may be written no more; what is left proves our end
            self._path.unlink(missing_ok=True)
        self._lock.close()
        _ours.discard(self._path)

    def _beat(
        self, every_s: float, on_death: Callable[[], None], on_outgrown: Callable[[], None]
    ) -> None:
        connection: BareConnection | None = None
        while not self._stop.wait(every_s):
            try:
                connection = connection or self._ledger.connect()
                with connection.transaction() as tx:
                    compatible_from = transitions.beat(tx, self.id, now=clock.now())
            except LedgerError as error:
                log.warning("heart.missed_beat", incarnation=self.id, error=str(error))
                if connection:  # whatever is still open on it would keep everybody from writing
                    connection.close()
                    connection = None
                continue
            if compatible_from is None:
                log.error("heart.buried", incarnation=self.id, hint="it was silent for too long")
                self.dead.set()
                on_death()
                break
            before, self._ledger.compatible_from = self._ledger.outgrown, compatible_from
            if self._ledger.outgrown and not before:
                on_outgrown()
        if connection:
            connection.close()


_ours: set[Path] = set()
"""Lock files of this process: opening and closing one again would drop its lock."""


def _locked(path: Path) -> tuple[IO[bytes], board.Board]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("w+b")
        notes = board.Board.on(file)
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        message = (
            f"this process cannot go on record: its lock file {path} cannot be made or locked: "
            f"{error.strerror or error}; nothing was stored"
        )
        raise LedgerError(message) from error
    _ours.add(path)
    return file, notes


def begun_by(path: Path) -> frozenset[int] | None:
    """Return the tasks that were begun last by the threads of whoever locked ``path``; None: nobody knows."""
    return None if path in _ours else board.read(path)


def is_stopped(pid: int) -> bool | None:
    """Say whether a process of this machine is stopped, or traced; None where that cannot be told."""
    try:
        # "pid (name) state …"; the name may hold anything, even a parenthesis.
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2][:1]
    except OSError:
        return None
    return state in {b"T", b"t"}


def is_gone(path: Path) -> bool:
    """Say whether the kernel proves that the process which locked ``path`` has died.

    Not if the kernel cannot be asked, for want of file descriptors, say: silence then has to tell.
    """
    if path in _ours:
        return False
    try:
        with path.open("r+b") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
