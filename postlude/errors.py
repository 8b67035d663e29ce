"""Every error that Postlude raises on purpose, and the stable codes that HTTP problems carry.

A code, once released, keeps its meaning; the words beside it may change. ``docs/problems.md`` lists
them all, and a test holds the two against each other.
"""

from __future__ import annotations

from typing import ClassVar


class PostludeError(Exception):
    """Base of all; its text says what failed, which one, and what to do about it."""

    code: ClassVar[str] = "internal-error"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Something went wrong inside the server"


class SettingsError(PostludeError):
    """A setting makes no sense; raised before a process takes any work."""

    code = "bad-setting"
    title = "A setting makes no sense"


class LedgerError(PostludeError):
    """The ledger could not do what it was asked for."""

    code = "ledger-unavailable"
    status = 503
    title = "The ledger is unavailable; nothing was accepted"


class LedgerBusy(LedgerError):
    """The writer's queue is full, or a write waited past its deadline before it began. Nothing was stored."""

    code = "ledger-busy"
    title = "The ledger is busy; nothing was accepted"


class AcceptUnknown(LedgerError):
    """The deadline passed while a write was under way: it may or may not have been stored."""

    code = "accept-unknown"
    title = (
        "It is not known whether the tasks were accepted; ask for them by id before sending again"
    )

    def __init__(self, message: str, ids: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.ids = ids


class LedgerTooOld(LedgerError):
    """The schema in the database is older than this code needs: run ``postlude migrate``."""

    code = "ledger-too-old"
    title = "The ledger's schema is older than this version needs"


class LedgerTooNew(LedgerError):
    """The schema in the database says that this code is too old to work with it."""

    code = "ledger-too-new"
    title = "The ledger's schema is newer than this version can work with"


class UnsafeSQLite(LedgerError):
    """The SQLite library at hand can corrupt a WAL database under our load (fixed in 3.51.3)."""

    code = "unsafe-sqlite"
    title = "This SQLite library can corrupt the ledger"


class BrokerAway(PostludeError):
    """RabbitMQ does not answer. Tasks wait in the ledger and are published when it does."""

    code = "broker-away"
    status = 503
    title = "The broker is unavailable"


class BadArguments(PostludeError, TypeError):
    """Arguments do not fit the actor's signature; nothing was stored.

    A ``TypeError`` too, because that is what calling the actor with them would raise. ``errors`` lists
    one entry per fault: ``{"pointer": "/email", "detail": "…"}``.
    """

    code = "bad-arguments"
    status = 422
    title = "The arguments do not fit the actor"

    def __init__(self, message: str, errors: tuple[dict[str, str], ...] = ()) -> None:
        super().__init__(message)
        self.errors = errors


class BadOptions(PostludeError, ValueError):
    """A task option is unknown or makes no sense; nothing was stored."""

    code = "bad-options"
    status = 422
    title = "A task option makes no sense"


class BadIdempotencyKey(PostludeError, ValueError):
    """The header Idempotency-Key does not have 1 to 255 printable ASCII characters. Nothing was done."""

    code = "bad-idempotency-key"
    status = 400
    title = "The Idempotency-Key makes no sense"


class IdempotencyMismatch(PostludeError, ValueError):
    """The Idempotency-Key belongs to another request of this caller. Nothing was done."""

    code = "idempotency-mismatch"
    status = 422
    title = "The Idempotency-Key was used for another request"


class BadResult(PostludeError, ValueError):
    """An actor returned what has no form in JSON, or too much of it; the result was not stored."""

    code = "bad-result"
    title = "The actor's result cannot be stored"


class CannotIsolate(PostludeError, RuntimeError):
    """An actor cannot be run in a child process: it cannot be imported there, or none can be started."""

    code = "cannot-isolate"
    title = "The actor cannot be run in a child process"


class ChildDied(PostludeError, RuntimeError):
    """The child process that ran a task died of it; the text names the signal or the exit code."""

    code = "child-died"
    title = "The child process that ran the task died"


class BadSchedule(PostludeError, ValueError):
    """A trigger, time zone or policy of a schedule makes no sense; the text says which and why."""

    code = "bad-schedule"
    status = 422
    title = "The schedule makes no sense"


class UnknownActor(PostludeError, LookupError):
    """No actor of that name is known to this process or to any live worker."""

    code = "unknown-actor"
    status = 404
    title = "There is no such actor"


class UnknownTask(PostludeError, LookupError):
    """No task has this id."""

    code = "unknown-task"
    status = 404
    title = "There is no such task"


class TaskExpired(PostludeError, LookupError):
    """The task finished and its retention is over; it has been deleted."""

    code = "task-expired"
    status = 410
    title = "The task is finished and no longer retained"


class TaskFinished(PostludeError):
    """The task has succeeded or failed; what is finished stays finished."""

    code = "task-finished"
    status = 409
    title = "The task has ended already"


class NotRetryable(PostludeError):
    """The task is in no state to be tried again by request; the text says why."""

    code = "not-retryable"
    status = 409
    title = "The task cannot be tried again"


class NotInstalled(PostludeError, RuntimeError):
    """``BackgroundTasks`` was used in an app without ``postlude.install(app)``, or outside HTTP."""

    code = "not-installed"
    title = "postlude.install(app) is missing"


class BadBinding(PostludeError, RuntimeError):
    """``bind(session)`` cannot work here; the text says why and what to do. Nothing was bound."""

    code = "bad-binding"
    title = "The session cannot carry the tasks of this request"


class NotCommitted(PostludeError, RuntimeError):
    """A bound session was not committed when the response started, so nothing could be promised."""

    code = "not-committed"
    title = "The tasks' session was not committed before the response"


class DriverMissing(PostludeError, ImportError):
    """A library that is optional, and needed for what was called, is not installed."""

    code = "driver-missing"
    title = "An optional library is missing"
