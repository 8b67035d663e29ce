"""The drop-in: ``BackgroundTasks`` whose actors survive, and whose functions run as FastAPI's do.

FastAPI recognises its own class, and any subclass, in an annotation and then always injects its own
object. So ours derives from the singular ``BackgroundTask``, and the exported name carries an
explicit ``Depends``; the bare class is refused when a route is declared with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, ParamSpec, overload

import structlog
from dramatiq import Actor, Message
from dramatiq.composition import group, pipeline
from fastapi import BackgroundTasks as InProcess
from fastapi import Depends
from fastapi.requests import HTTPConnection
from starlette.background import BackgroundTask

from postlude.dispatch import messages, promises
from postlude.dispatch.exchange import SCOPE_KEY, Bundle, Exchange, current
from postlude.dispatch.handle import TaskHandle
from postlude.errors import NotInstalled

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session

    from postlude.ledger.task import NewTask

P = ParamSpec("P")
REQUEST_STACK = "fastapi_inner_astack"
"""Where FastAPI keeps, in the ASGI scope, the exit stack of dependencies whose scope is the request."""
log = structlog.get_logger()
_announced: set[str] = set()


class Tasks(BackgroundTask):
    """The tasks of one request, durable ones and others: what ``BackgroundTasks`` stands for.

    Made by hand, it works as in Starlette: nothing happens until it is called, and a response that
    carries it does that after its last byte. Its durable tasks are accepted before the first byte
    all the same, and cancelled if nobody has called it by the end of the request.
    """

    def __init__(
        self, tasks: Sequence[BackgroundTask] | None = None, *, bundle: Bundle | None = None
    ) -> None:
        self.bundle = bundle or Bundle(current.get(), InProcess(tasks))
        self._added: list[BackgroundTask | TaskHandle] = list(tasks or ())

    @property
    def tasks(self) -> list[BackgroundTask | TaskHandle]:
        """What was added so far, in order: a handle for each durable task."""
        return list(self._added)

    def __len__(self) -> int:
        return len(self._added)

    def __bool__(self) -> bool:
        return True  # as FastAPI's: ``if background_tasks:`` asks whether there is an object

    @overload
    def add_task(self, func: Actor[P, Any], *args: P.args, **kwargs: P.kwargs) -> TaskHandle: ...
    @overload
    def add_task(self, func: Message[Any]) -> TaskHandle: ...
    @overload
    def add_task(
        self, func: pipeline | group, *, delay: timedelta | int | None = None
    ) -> list[TaskHandle]: ...
    @overload
    def add_task(
        self, func: Callable[P, Message[Any]], *args: P.args, **kwargs: P.kwargs
    ) -> TaskHandle: ...
    @overload
    def add_task(
        self, func: Callable[P, Any], *args: P.args, **kwargs: P.kwargs
    ) -> TaskHandle | None: ...
    def add_task(
        self, func: Any, *args: Any, **kwargs: Any
    ) -> TaskHandle | list[TaskHandle] | None:
        """Have ``func`` run with these arguments after the response.

        An actor, its ``send`` or a message becomes a durable task: its arguments are checked and
        encoded now, raising BadArguments (a TypeError) if they do not fit, and the handle names it.
        A pipeline or a group becomes durable tasks, all or none, with a handle for each: the steps in
        order, or the members, then the callbacks; ``delay`` is its ``run``'s, or a timedelta. A plain
        function runs in this process exactly as FastAPI runs it, and dies with it: None.
        """
        task = messages.durable(func, args, kwargs)
        if task is not None:
            return self._promise(task)[0]
        tasks = messages.composed(func, args, kwargs)
        if tasks is not None:
            return self._promise(*tasks)
        in_process = self.bundle.in_process
        in_process.add_task(func, *args, **kwargs)
        self._added.append(in_process.tasks[-1])
        _announce(func)
        return None

    def add_task_with_options(
        self,
        actor: Actor[..., Any],
        *,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        delay: timedelta | int | None = None,
        **options: Any,
    ) -> TaskHandle:
        """Add a durable task with Dramatiq's message options.

        ``delay`` is a timedelta or milliseconds, from now on. Raises BadArguments, BadOptions.
        """
        if not isinstance(actor, Actor):
            message = f"options need an actor; put @dramatiq.actor on {_name(actor)}"
            raise TypeError(message)
        task = messages.with_options(actor, args=args, kwargs=kwargs, delay=delay, **options)
        return self._promise(task)[0]

    def bind(self, session: Session | AsyncSession, *, late: bool = False) -> None:
        """Store the durable tasks of this request in ``session``'s own transaction, from now on.

        Its outermost commit decides, not the response: committed, they run after the response, even
        if that is an error; rolled back, with the transaction or with the savepoint in which they
        were added, they never run. To be called before the first durable task is added. The session
        must be on the ledger's database (``postlude.engine()``, ``postlude.async_engine()``); plain
        functions are no concern of it.

        A response that starts before the commit is an error (NotCommitted), unless ``late`` waives
        what its first byte promises. Raises BadBinding when this session, or this object, will not
        do. For the same session it may be called again.
        """
        from postlude.dispatch import hosting  # noqa: PLC0415 # loads SQLAlchemy's ORM

        hosting.bind(self.bundle, session, late=late)

    async def __call__(self) -> None:
        """Run the plain functions, one after the other, as Starlette does.

        Durable tasks are not run here. Those of a request are released by its end; outside a
        request they are stored first, raising LedgerError when that fails.
        """
        if self.bundle.wanted is None:
            self.bundle.wanted = True
            await _deliver(self.bundle)
        await self.bundle.in_process()

    def _promise(self, *tasks: NewTask) -> list[TaskHandle]:
        self.bundle.add(*tasks)
        handles = [TaskHandle(task.id, task.actor, task.queue) for task in tasks]
        self._added.extend(handles)
        return handles


async def provide(connection: HTTPConnection, in_process: InProcess) -> Tasks:
    """Inject the request's tasks; a test may put a fake into ``app.dependency_overrides[provide]``.

    FastAPI tears what belongs to a request down after the response, but before it if the endpoint,
    a dependency, validation or serialisation failed: then no task is to run.
    """
    exchange: Exchange | None = connection.scope.get(SCOPE_KEY)
    if exchange is None:
        _refuse_connection(connection)
    bundle = Bundle(exchange, in_process, wanted=True)
    # A generator would do the same through two context managers and a cancel scope, for 28 µs.
    stack: AsyncExitStack = connection.scope[REQUEST_STACK]
    stack.callback(_end, bundle, exchange)
    return Tasks(bundle=bundle)  # one for all who ask: FastAPI caches it for the request


def _end(bundle: Bundle, exchange: Exchange) -> None:
    if not exchange.started:
        bundle.fail()


if TYPE_CHECKING:
    BackgroundTasks = Tasks
else:
    BackgroundTasks = Annotated[Tasks, Depends(provide, scope="request")]


async def _deliver(bundle: Bundle) -> None:
    """See to the durable tasks of an object made by hand, now that it has been called."""
    exchange = bundle.exchange
    if exchange is not None and exchange.started and not exchange.over:
        exchange.release_early()  # or its end will
        return
    if bundle.settled:
        _refuse_late_call(bundle)
    rows = bundle.rows[:]
    if rows:
        door = await promises.door()
        await door.accept(rows, started=True)
        bundle.stored = bundle.settled = len(rows)
        door.release([row.id for row in rows])


def _announce(func: object) -> None:
    """Say once per function that its tasks do not survive."""
    name = _name(func)
    if name in _announced:
        return
    _announced.add(name)
    meaning = "dies with this process; put @dramatiq.actor on it if it must survive"
    log.info("task.in_process", function=name, meaning=meaning)


def _name(func: object) -> str:
    func = getattr(func, "func", func)  # what a functools.partial is about
    owner = func if hasattr(func, "__qualname__") else type(func)
    return f"{owner.__module__}.{owner.__qualname__}"


def _refuse_connection(connection: HTTPConnection) -> NoReturn:
    path = connection.scope["path"]
    if connection.scope["type"] == "websocket":
        message = (
            f"BackgroundTasks run after a response, and the WebSocket route {path!r} has none;"
            " use actor.send() there"
        )
    else:
        message = (
            f"BackgroundTasks at {path!r} cannot keep a promise: call postlude.install(app) on the"
            " app that serves it, before it starts"
        )
    raise NotInstalled(message)


def _refuse_late_call(bundle: Bundle) -> NoReturn:
    ids = ", ".join(row.id for row in bundle.rows[: bundle.settled])
    message = (
        f"these BackgroundTasks were called after the end of the request that made them; the tasks"
        f" {ids} are cancelled, send them anew"
    )
    raise RuntimeError(message)
