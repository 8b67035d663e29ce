"""What the tests of ``bind`` share: a shop with orders in the ledger's database, sync and async."""

from __future__ import annotations

import asyncio
import inspect
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import MetaData, NullPool, String, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import postlude
from postlude.dispatch.binding import KEY

THREADS = ThreadPoolExecutor(64)
"""Enough for all sessions of a test: some wait for the pool, and those who have them must go on."""


class Base(DeclarativeBase):
    metadata = MetaData()


class Order(Base):
    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String, unique=True)


class Till:
    """A session of either kind; what it does is awaited, a ``Session`` does it in another thread."""

    def __init__(self, session: Any) -> None:
        self.session = session

    async def order(self, name: str) -> None:
        """Add an order and write it."""
        self.session.add(Order(name=name))
        await self.do("flush")

    async def do(self, method: str, *arguments: Any) -> Any:
        return await _call(self.session, method, *arguments)

    async def read(self) -> None:
        await self.do("execute", select(Order))

    async def commit(self) -> None:
        await self.do("commit")

    async def rollback(self) -> None:
        await self.do("rollback")

    @asynccontextmanager
    async def savepoint(self):
        """A savepoint: released at the end of the block, rolled back if that raises."""
        point = await self.do("begin_nested")
        try:
            yield
            await _call(point, "commit")
        except BaseException:
            await _call(point, "rollback")
            raise


async def _call(target: Any, method: str, *arguments: Any) -> Any:
    if isinstance(target, AsyncSession) or "Async" in type(target).__name__:
        result = getattr(target, method)(*arguments)
        return await result if inspect.isawaitable(result) else result
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(THREADS, getattr(target, method), *arguments)


class Shop:
    """A site whose endpoints keep orders beside the ledger, through sessions of one kind."""

    def __init__(self, site: Any, kind: str) -> None:
        self.site, self.app, self.life, self.events = site, site.app, site.life, site.events
        self.call, self.tasks, self.settle = site.call, site.tasks, site.settle
        self.kind = kind
        self.engine = postlude.engine()
        self.lent = self.engine if kind == "Session" else postlude.async_engine(poolclass=NullPool)
        Base.metadata.create_all(self.engine)

    def session(self, **options: Any) -> Any:
        """Return a new session; closing it is left to the caller."""
        return (Session if self.kind == "Session" else AsyncSession)(self.lent, **options)

    def open(self, **options: Any) -> AbstractAsyncContextManager[Till]:
        """Open a session for a block."""
        return _open(self.session(**options))

    def orders(self) -> list[str]:
        """Return the orders that everybody sees."""
        with self.engine.connect() as connection:
            return list(connection.execute(text("SELECT name FROM orders ORDER BY id")).scalars())

    def post(self, endpoint: Any, *, settle: bool = True) -> Any:
        """Make ``endpoint`` the one of the site and call it.

        Without ``settle`` what it leaves behind may wait for a lock that a session still has.
        """
        self.app.post("/")(endpoint)
        if settle:
            return self.call("POST", "/")
        return TestClient(self.app, raise_server_exceptions=False).post("/")

    def close(self) -> None:
        self.engine.dispose()
        if self.kind == "AsyncSession":
            asyncio.run(self.lent.dispose())


@asynccontextmanager
async def _open(session: Any):
    till = Till(session)
    try:
        yield till
    finally:
        await till.do("close")


@pytest.fixture(autouse=True)
def patience(environment):
    """Waiting for the lock fails in those tests alone that are about it, however busy the machine."""
    environment(write_timeout="60s")


@pytest.fixture(params=["Session", "AsyncSession"])
def shop(request, one_site) -> Shop:
    shop = Shop(one_site, request.param)
    yield shop
    shop.close()


@pytest.fixture
def sync_shop(one_site) -> Shop:
    shop = Shop(one_site, "Session")
    yield shop
    shop.close()


@pytest.fixture
def async_shop(one_site) -> Shop:
    shop = Shop(one_site, "AsyncSession")
    yield shop
    shop.close()


@pytest.fixture
def order() -> type[Order]:
    return Order


@pytest.fixture
def till() -> type[Till]:
    return Till


@pytest.fixture
def is_followed():
    """Says whether a session is still followed by some request's binding."""

    def is_followed(session: Any) -> bool:
        found = getattr(session, "sync_session", session)
        followers = [len(list(getattr(found.dispatch, name))) for name in EVENTS]
        return KEY in found.info or any(followers)

    return is_followed


EVENTS = (
    "after_transaction_create",
    "before_commit",
    "after_flush",
    "after_commit",
    "after_rollback",
    "after_transaction_end",
)
