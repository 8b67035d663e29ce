"""Whether a session may carry a request's tasks, and the binding if it may."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from sqlalchemy.exc import UnboundExecutionError
from sqlalchemy.orm import Session

from postlude.dispatch import promises
from postlude.dispatch.binding import KEY, Binding
from postlude.door import stand_in
from postlude.errors import BadBinding
from postlude.ledger import guest, lending
from postlude.settings import settings

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from postlude.dispatch.exchange import Bundle


def bind(bundle: Bundle, session: object, *, late: bool) -> None:
    """Let ``session`` carry what is added to ``bundle``; see ``BackgroundTasks.bind``."""
    exchange = bundle.exchange
    found = _session_of(session)
    if bundle.wanted is None:
        _refuse("bind() is for the BackgroundTasks that FastAPI injects, not for one made by hand")
    if exchange is None or exchange.over:
        _refuse("bind() came when the request had failed or ended already")
    if exchange.keyed:
        _refuse(
            "a request with an Idempotency-Key cannot be bound: its session commits before there is an"
            " answer to keep; leave bind() out on an IdempotentRoute"
        )
    present = exchange.binding
    if present is not None:
        if present.session is not found:
            _refuse("this request is bound to another session already; one commit decides for all")
        present.late = present.late or late
        return
    if any(other.rows for other in exchange.bundles):
        _refuse("a task was added before bind(session); bind before the first add_task")
    _take_over(found)
    binding = Binding(bundle, found, _way_of(found), late=late)
    binding.listen()
    exchange.bind(bundle, binding)


def _session_of(session: object) -> Session:
    found = getattr(session, "registry", lambda: session)()  # of a scoped session, the current one
    found = getattr(found, "sync_session", found)  # of an AsyncSession
    if not isinstance(found, Session):
        _refuse(f"bind() takes an SQLAlchemy Session or AsyncSession, not {type(session).__name__}")
    return found


def _take_over(session: Session) -> None:
    other: Binding | None = session.info.get(KEY)
    if other is None:
        return
    if other.is_open:
        _refuse("this session carries the tasks of another request that is still under way")
    other.let_go()


def _way_of(session: Session) -> Engine | Connection | None:
    """Return what the session reaches the ledger by; None if a test stands in for the ledger."""
    if stand_in() is not None:
        return None
    try:
        way = session.get_bind()
    except UnboundExecutionError:
        _refuse(f"the session has no engine that is its default; {guest.FIX}")
    guest.check_engine(way.engine, settings())
    if not lending.has_lent(way.engine):
        _check_stranger(session, way)
    return way


def _check_stranger(session: Session, way: Engine | Connection) -> None:
    """Do now for an engine that is not ours what ours does when it takes the write lock.

    What storing would find out is found out early, but in an ``AsyncSession`` only that can.
    """
    promises.open_now()
    if way.dialect.is_async:
        return
    if session.in_transaction():
        guest.check(session.connection(bind_arguments={"bind": way}), settings())
        return
    with way.engine.connect() as connection:
        guest.check(connection, settings())


def _refuse(message: str) -> NoReturn:
    raise BadBinding(message)
