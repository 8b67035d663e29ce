"""Connections that threads share: no error gets lost, and nobody waits for a result to be dropped."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from postlude.ledger.lending import lend
from postlude.settings import load

TABLES = (
    "CREATE TABLE parents (id INTEGER PRIMARY KEY)",
    """CREATE TABLE children (name TEXT UNIQUE,
        parent INTEGER REFERENCES parents (id) DEFERRABLE INITIALLY DEFERRED)""",
    "INSERT INTO children VALUES ('ada', NULL), ('bob', NULL), ('cyd', NULL)",
)
DEFECTS = {
    "a statement": "INSERT INTO children VALUES ('ada', NULL)",
    "a commit": "INSERT INTO children VALUES ('dan', 7)",
}
ENDLESS = (
    "WITH RECURSIVE n (i) AS (SELECT busy() UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
)
SPAN_S = 2


@pytest.fixture
def engine(tmp_path):
    engine = lend(load(data_dir=tmp_path), lambda _connection: None)
    with engine.begin() as connection:
        for table in TABLES:
            connection.execute(text(table))
    yield engine
    engine.dispose()


@contextmanager
def repeated(call):
    over = threading.Event()

    def go():
        while not over.wait(0.0001):
            for _ in range(100):
                call()

    with ThreadPoolExecutor() as pool:
        running = pool.submit(go)
        try:
            yield
        finally:
            over.set()
        running.result()


@pytest.mark.parametrize("defect", DEFECTS)
def test_what_fails_is_an_error_although_another_thread_drops_a_result_meanwhile(engine, defect):
    seen = Counter()
    pooled = engine.raw_connection()
    connection = pooled.driver_connection

    def leave_a_result_unread():
        connection.execute("SELECT name FROM children").fetchone()

    with repeated(leave_a_result_unread), repeated(leave_a_result_unread):
        end = time.monotonic() + SPAN_S
        while time.monotonic() < end:
            connection.execute("BEGIN IMMEDIATE")
            try:
                connection.execute(DEFECTS[defect])
                connection.commit()
                seen["silence"] += 1
            except connection.IntegrityError:
                seen["error"] += 1
            connection.execute("ROLLBACK")
    pooled.close()

    assert set(seen) == {"error"}
    assert seen["error"] > 100


def test_a_session_that_goes_from_thread_to_thread_works_as_ever(engine):
    with ThreadPoolExecutor(8) as pool, Session(engine) as session:

        def elsewhere(statement):
            return pool.submit(session.execute, text(statement)).result()

        first, *others = elsewhere("SELECT name FROM children ORDER BY name").scalars()
        elsewhere("INSERT INTO children VALUES ('dan', NULL)")
        with pytest.raises(IntegrityError, match="UNIQUE"):
            elsewhere("INSERT INTO children VALUES ('ada', NULL)")
        pool.submit(session.rollback).result()

        assert (first, others) == ("ada", ["bob", "cyd"])
        assert elsewhere("SELECT count(*) FROM children").scalar_one() == 3


def test_dropping_a_result_waits_for_nobody_and_frees_what_it_held(engine):
    pooled, other = engine.raw_connection(), engine.raw_connection()
    connection, writer = pooled.driver_connection, other.driver_connection
    busy = threading.Event()
    connection.create_function("busy", 0, lambda: busy.set() or 0)
    reading = connection.cursor()
    reading.execute("SELECT name FROM children")
    writer.execute("INSERT INTO children VALUES ('dan', NULL)")
    with ThreadPoolExecutor() as pool:
        endless = pool.submit(connection.execute, ENDLESS)
        busy.wait(10)
        del reading
        assert not endless.done()
        connection.interrupt()
        assert "interrupted" in str(endless.exception(10))

    # A statement that is still at its rows would keep the log from being emptied.
    assert writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
    pooled.close()
    other.close()
