"""Everything that a process has one of: settings, ledger, incarnation, pulse.

Made on first use, never at import, and made anew after somebody declared this incarnation dead. A
forked child of a process that has the ledger open cannot have one: SQLite keeps its locks in memory
that the child inherits without the locks, and what the child commits can be lost.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import structlog

from postlude.errors import LedgerError
from postlude.ledger import fork
from postlude.ledger.ledger import Ledger
from postlude.settings import settings as read_settings
from postlude.worker.chores import Chores
from postlude.worker.incarnation import Incarnation
from postlude.worker.pulse import Pulse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from postlude.settings import Settings

log = structlog.get_logger()

CHORE_S = 3.0
"""Between two rounds of a chore that others tend to here, such as the audit of promises."""


class Process:
    """One open ledger and, once asked for, a life on record. All methods may be called by any thread.

    ``kind`` is api, worker, scheduler or script; a script that only sends has no incarnation.
    """

    def __init__(self, settings: Settings, kind: str, queues: Iterable[str] = ()) -> None:
        self.settings = settings
        self.kind = kind
        self.pid = os.getpid()
        self.ledger = Ledger(settings, polite=kind == "worker")
        self.pulse = Pulse(self.ledger)
        self._queues = tuple(queues)
        self._incarnation: Incarnation | None = None
        self._lock = threading.Lock()
        self._chores: list[Chores] = []
        self._after: list[Callable[[], object]] = []
        self._leave: Callable[[], object] | None = None
        self._closed = False

    @property
    def incarnation(self) -> Incarnation:
        """Return this life on record, which begins when it is asked for."""
        with self._lock:
            if self._incarnation is None:
                self._incarnation = self._appear()
            return self._incarnation

    @property
    def ended(self) -> bool:
        """Say whether this life is over: whoever holds on to it must get the current one."""
        return _current is not self

    def tend(self, chore: Callable[[], object], *, slow_s: float = 1.0) -> None:
        """Do ``chore`` every few seconds, in a thread of its own, for as long as this life lasts.

        It is named in the log when it takes longer than ``slow_s`` seconds.
        """
        self._chores.append(Chores(CHORE_S, [chore], slow_s=slow_s))

    def after_burial(self, begin: Callable[[], object]) -> None:
        """Call ``begin``, in a thread of its own, if somebody else puts an end to this life."""
        self._after.append(begin)

    def when_outgrown(self, leave: Callable[[], object]) -> None:
        """Call ``leave``, in a thread of its own, once the ledger has become too new for this code."""
        self._leave = leave

    def close(self) -> None:
        """Leave: hand back what is held, store what is waiting, close every connection.

        May be called again. Never raises: if the ledger is away, others will notice that we left.
        """
        _forget(self)
        with self._lock:
            if self._closed:
                return
            self._closed = True
        for chores in self._chores:
            chores.stop()
        self.pulse.close()
        if self._incarnation:
            self._incarnation.leave()
        self.ledger.close()

    def _appear(self) -> Incarnation:
        from postlude import __version__  # noqa: PLC0415 - the package imports this module

        life = Incarnation(
            self.ledger,
            kind=self.kind,
            queues=self._queues,
            version=__version__,
            folder=self.settings.data_dir / "run",
        )
        life.start(self.settings.heartbeat, self._buried, self._outgrown)
        return life

    def _buried(self) -> None:
        """End this life, which others have ended already, and let those begin anew who want to."""
        _forget(self)
        threading.Thread(target=self._begin_anew, name="begin-anew", daemon=True).start()

    def _outgrown(self) -> None:
        """Let this process leave, if it wants to: others say "no" to what is new and stay."""
        log.error(
            "ledger.outgrown",
            kind=self.kind,
            compatible_from=self.ledger.compatible_from,
            hint="a newer version has migrated the ledger: finish the deploy, run that version",
        )
        if self._leave is not None:
            threading.Thread(target=self._leave, name="outgrown", daemon=True).start()

    def _begin_anew(self) -> None:
        for begin in self._after:
            begin()
        self.close()


_lock = threading.RLock()
_current: Process | None = None
_kind = "script"
_queues: tuple[str, ...] = ()
_left = False


def current() -> Process:
    """Return this process's one, opening the ledger on first use.

    Raises LedgerError (LedgerTooOld: run ``postlude migrate``) or SettingsError; LedgerError, too, in
    a child that was forked while its parent had the ledger open, and after :func:`leave`.
    """
    global _current  # noqa: PLW0603 - this is the one place for what a process has one of
    found = _current
    if found is not None:
        return found
    with _lock:
        fork.refuse()
        if _left:
            message = "this process is leaving: it opens the ledger no more; nothing was stored"
            raise LedgerError(message)
        if _current is None:
            _current = Process(read_settings(), _kind, _queues)
        return _current


def open_as(kind: str, queues: Iterable[str] = ()) -> Process:
    """Say what this process is, before or after its first use of the ledger, and open it."""
    global _kind, _queues
    with _lock:
        found = _current
        if found is not None and found.kind != kind:
            found.close()
        _kind, _queues = kind, tuple(queues)
        return current()


def assume(kind: str) -> None:
    """Say what this process probably is; counts if nobody has said it and nothing is open."""
    global _kind  # noqa: PLW0603 - see current
    with _lock:
        if _current is None and _kind == "script":
            _kind = kind


def close() -> None:
    """Close what is open; the next use opens it again."""
    found = _current
    if found is not None:
        found.close()


def leave() -> None:
    """Close what is open, for good: this process ends, and none of its threads may begin a new life."""
    global _left  # noqa: PLW0603 - see current
    with _lock:
        _left = True
    close()


def _forget(process: Process) -> None:
    global _current  # noqa: PLW0603 - see current
    with _lock:
        if _current is process:
            _current = None


def _after_fork() -> None:
    """Keep the parent's life from being used, and from being closed: its connections are not ours."""
    global _lock, _current  # noqa: PLW0603 - see current
    _lock = threading.RLock()
    if _current is not None:
        fork.lose(_current)
        _current = None


os.register_at_fork(after_in_child=_after_fork)
