"""``postlude.engine()`` and ``postlude.async_engine()``: tables of one's own beside the ledger's."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import NullPool, text
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

import postlude
from postlude import process
from postlude.dispatch import promises
from postlude.ledger import clock, migrate, sqlite
from postlude.ledger.ledger import Ledger
from postlude.ledger.transitions.incarnation import appear
from postlude.settings import load, settings

ROOT = Path(__file__).parents[2]


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder with a ledger that is this process's, though nothing has opened it or serves here."""
    monkeypatch.setattr(promises, "_serves", False)
    monkeypatch.setenv("POSTLUDE_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("POSTLUDE_WRITE_TIMEOUT", "300ms")
    settings.cache_clear()
    migrate.upgrade(load())
    yield tmp_path
    process.close()
    settings.cache_clear()


@pytest.fixture
def engine(home):
    engine = postlude.engine()
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE orders (name TEXT UNIQUE)")
    yield engine
    engine.dispose()


@pytest.fixture
def ledger(home):
    with closing(Ledger(load())) as ledger:
        yield ledger


INSERT = text("INSERT INTO orders VALUES (:name)")
ALL = text("SELECT name FROM orders ORDER BY rowid")


class Both:
    """A session of either kind, used the same way: ``run`` takes what is done with a ``Session``."""

    def __init__(self, kind):
        self.kind = kind

    def run(self, work):
        if self.kind == "Session":
            engine = postlude.engine()
            try:
                with Session(engine) as session:
                    return work(session)
            finally:
                engine.dispose()
        return asyncio.run(self._run(work))

    async def _run(self, work):
        engine = postlude.async_engine()
        try:
            async with AsyncSession(engine) as session:
                return await session.run_sync(work)
        finally:
            await engine.dispose()


@pytest.fixture(params=["Session", "AsyncSession"])
def both(request, engine):
    return Both(request.param)


@contextmanager
def _locked(ledger):
    with closing(ledger.connect()) as connection, connection.transaction():
        yield


def _write(ledger):
    """Commit something from elsewhere."""
    life = partial(appear, kind="api", host="here", pid=1, version="0", queues=(), now=clock.now())
    ledger.write(lambda tx: life(tx, str(os.urandom(4).hex())))


def test_making_one_opens_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("POSTLUDE_DATA_DIR", str(tmp_path / "var"))
    settings.cache_clear()

    postlude.engine()
    postlude.async_engine()

    assert not (tmp_path / "var").exists()
    settings.cache_clear()


def test_it_makes_the_folder_when_it_connects(tmp_path, monkeypatch):
    monkeypatch.setenv("POSTLUDE_DATA_DIR", str(tmp_path / "var"))
    settings.cache_clear()

    engine = postlude.engine()
    with engine.connect() as connection:
        connection.exec_driver_sql("SELECT 1")
    engine.dispose()

    assert (tmp_path / "var" / "postlude.db").exists()
    settings.cache_clear()


def test_options_reach_sqlalchemy(home):
    engine = postlude.engine(poolclass=NullPool, execution_options={"logging_token": "x"})

    assert isinstance(engine.pool, NullPool)
    assert engine.get_execution_options() == {"logging_token": "x"}


def test_its_connections_are_as_the_ledgers(both):
    def look(session):
        pragmas = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        found = [session.execute(text(f"PRAGMA {name}")).scalar_one() for name in pragmas]
        version = session.execute(text("SELECT sqlite_version()")).scalar_one()
        return [*found, version]

    assert both.run(look) == ["wal", 2, 1, 300, sqlite.library().sqlite_version]


def test_errors_are_sqlalchemys(both):
    def work(session):
        session.execute(INSERT, {"name": "ada"})
        with pytest.raises(IntegrityError):
            session.execute(INSERT, {"name": "ada"})
        session.rollback()
        with pytest.raises(OperationalError, match="no such table"):
            session.execute(text("SELECT * FROM nowhere"))

    both.run(work)


def test_reads_see_the_latest_commit_and_writes_wait_for_nobody_who_only_reads(both, ledger):
    def work(session):
        seen = [session.execute(ALL).scalars().all()]
        _write(ledger)  # nothing that was read keeps others from writing, or us from writing then
        session.execute(INSERT, {"name": "ada"})
        session.commit()
        seen.append(session.execute(ALL).scalars().all())
        return seen

    assert both.run(work) == [[], ["ada"]]


def test_from_its_first_write_on_nobody_else_writes(both, ledger):
    def work(session):
        session.execute(INSERT, {"name": "ada"})
        with closing(ledger.connect()) as other:
            other._cursor.execute("PRAGMA busy_timeout = 0")
            with pytest.raises(other.errors, match="locked"):
                other.begin()
        session.rollback()
        _write(ledger)
        return session.execute(ALL).scalars().all()

    assert both.run(work) == []


def test_who_cannot_have_the_lock_hears_of_it_after_the_setting_and_can_go_on(both, ledger):
    def work(session):
        with _locked(ledger), pytest.raises(OperationalError, match="locked"):
            session.execute(INSERT, {"name": "ada"})
        session.rollback()
        session.execute(INSERT, {"name": "bob"})
        session.commit()
        return session.execute(ALL).scalars().all()

    assert both.run(work) == ["bob"]


def test_who_waits_for_the_lock_gets_it(both, ledger):
    def work(session):
        begun, go_on = threading.Event(), threading.Event()

        def hold():
            with _locked(ledger):
                begun.set()
                go_on.wait(10)

        holder = threading.Thread(target=hold)
        holder.start()
        assert begun.wait(10)
        threading.Timer(0.1, go_on.set).start()
        session.execute(INSERT, {"name": "ada"})
        session.commit()
        holder.join(10)
        return session.execute(ALL).scalars().all()

    assert both.run(work) == ["ada"]


def test_a_savepoint_is_part_of_a_transaction_and_not_one_by_itself(both, engine):
    """SQLite's outermost RELEASE is a commit if nothing has begun before it."""

    def work(session):
        with session.begin_nested():
            session.execute(INSERT, {"name": "ada"})
        with engine.connect() as connection:
            seen = connection.execute(ALL).scalars().all()
        session.rollback()
        return seen, session.execute(ALL).scalars().all()

    assert both.run(work) == ([], [])


def test_writes_within_a_with_clause_and_definitions_are_rolled_back_too(both):
    def work(session):
        session.execute(text("WITH n(x) AS (SELECT 'ada') INSERT INTO orders SELECT x FROM n"))
        session.execute(text("CREATE TABLE more (x)"))
        session.rollback()
        tables = session.execute(text("SELECT name FROM sqlite_master WHERE name = 'more'"))
        return session.execute(ALL).scalars().all(), tables.all()

    assert both.run(work) == ([], [])


def test_autocommit_commits_each_statement_if_somebody_wants_that(engine):
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(INSERT, {"name": "ada"})
    always = postlude.engine(isolation_level="AUTOCOMMIT")
    with always.connect() as connection:
        connection.execute(INSERT, {"name": "bob"})
    always.dispose()

    with engine.connect() as connection:
        assert connection.execute(ALL).scalars().all() == ["ada", "bob"]


def test_vacuum_runs(engine):
    with engine.connect() as connection:
        connection.exec_driver_sql("VACUUM")


def test_a_process_that_serves_nobody_does_not_go_on_record(engine):
    """A script or a migration that writes its tables is no incarnation."""
    with engine.begin() as connection:
        connection.execute(INSERT, {"name": "ada"})
        lives = connection.exec_driver_sql("SELECT count(*) FROM postlude_incarnations")
        assert lives.scalar_one() == 0


PROGRAM = """
import os, sys
import postlude
from postlude import process
from postlude.errors import LedgerError

engine = postlude.engine()
if {opened}:
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE mine (x)")
if {disposed}:
    engine.dispose()
if child := os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
for use in (lambda: engine.connect().close(), process.current):
    try:
        use()
        print("opened")
    except LedgerError as error:
        print(str(error)[:30])
process.close()
"""


@pytest.mark.parametrize(
    ("opened", "disposed", "said"),
    [
        (True, False, ["this process was forked from o"] * 2),
        (True, True, ["opened"] * 2),
        (False, False, ["opened"] * 2),
    ],
)
def test_a_forked_child_has_no_ledger_if_its_parent_has_connections(home, opened, disposed, said):
    program = PROGRAM.format(opened=opened, disposed=disposed)

    assert _run(program).split("\n") == [*said, ""]


@pytest.mark.parametrize("missing", ["aiosqlite", "greenlet"])
def test_without_its_library_an_async_engine_says_what_to_install(home, missing):
    program = f"""
import sys
sys.modules[{missing!r}] = None
import postlude
try:
    postlude.async_engine()
except postlude.errors.DriverMissing as error:
    print(isinstance(error, ImportError), error)
"""
    said = _run(program)

    assert said.startswith("True ")
    assert f"needs {missing}: install Postlude with its extra 'async'" in said


def _run(program):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
