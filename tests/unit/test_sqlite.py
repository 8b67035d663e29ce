"""Which SQLite may carry a ledger, and how every connection to one is set up."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from postlude.ledger import migrate, sqlite
from postlude.ledger.ledger import Ledger
from postlude.settings import load

ROOT = Path(__file__).parents[2]

BEFORE = """
import sys
sys.modules["pysqlite3"] = sys.modules["pysqlite3.dbapi2"] = None  # not installed
import sqlite3
sqlite3.sqlite_version_info = tuple(map(int, sys.argv[1].split(".")))
sqlite3.sqlite_version = sys.argv[1]
from postlude.errors import PostludeError
from postlude.ledger import ledger, migrate, sqlite
from postlude.settings import load
"""
OPEN = f"""{BEFORE}
try:
    print(migrate.upgrade(load()))
except PostludeError as error:
    print(type(error).__name__, error)
"""
WATCHED = """
import sys

opened = []
def watch(event, arguments):
    if event == "open" and "postlude.db" in str(arguments[0]):
        opened.append(arguments[0])
    if event == "sqlite3.connect" and "_sqlite3" in sys.modules:
        opened.append(event)

from postlude.settings import load
sys.addaudithook(watch)
from postlude import process
from postlude.ledger import migrate

migrate.upgrade(load())
life = process.current()
life.incarnation
life.ledger.write(lambda tx: None)
life.pulse.listen()
process.close()
print(opened)
print([name for name in ("pysqlite3.dbapi2", "sqlite3.dbapi2") if name in sys.modules])
"""


def run(folder, code, *arguments, **variables) -> list[str]:
    environment = {"POSTLUDE_DATA_DIR": str(folder), "PATH": "", **variables}
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("version", "safe"),
    [
        ((3, 7, 0), False),
        ((3, 40, 1), False),
        ((3, 44, 5), False),
        ((3, 44, 6), True),
        ((3, 44, 7), True),
        ((3, 45, 0), False),
        ((3, 49, 99), False),
        ((3, 50, 6), False),
        ((3, 50, 7), True),
        ((3, 51, 0), False),
        ((3, 51, 2), False),
        ((3, 51, 3), True),
        ((3, 52, 0), True),
        ((4, 0, 0), True),
    ],
)
def test_only_releases_with_the_fix_are_trusted(version, safe):
    assert sqlite.is_safe(version) is safe


def test_an_sqlite_that_can_corrupt_the_ledger_is_refused_before_the_file_is_made(tmp_path):
    (line,) = run(tmp_path, OPEN, "3.40.1")

    assert line.startswith("UnsafeSQLite SQLite 3.40.1 can corrupt")
    for word in ("3.51.3", "pysqlite3", "POSTLUDE_ALLOW_UNSAFE_SQLITE=1"):
        assert word in line
    assert list(tmp_path.iterdir()) == []


def test_it_is_accepted_when_a_setting_says_so(tmp_path):
    assert run(tmp_path, OPEN, "3.40.1", POSTLUDE_ALLOW_UNSAFE_SQLITE="1") == ["1"]


def test_a_fixed_one_of_the_standard_library_needs_no_setting(tmp_path):
    assert run(tmp_path, OPEN, "3.51.3") == ["1"]


@pytest.mark.skipif(not importlib.util.find_spec("pysqlite3"), reason="pysqlite3 has no wheel here")
def test_the_bundled_one_is_preferred():
    assert sqlite.library().__name__ == "pysqlite3.dbapi2"


@pytest.mark.skipif(not importlib.util.find_spec("pysqlite3"), reason="pysqlite3 has no wheel here")
def test_no_process_opens_the_ledger_with_another_library_or_as_a_plain_file(tmp_path):
    opened, libraries = run(tmp_path, WATCHED)

    assert opened == "[]"
    assert libraries == "['pysqlite3.dbapi2']"


@pytest.fixture
def ledger(tmp_path):
    settings = load(data_dir=tmp_path)
    migrate.upgrade(settings)
    ledger = Ledger(settings)
    yield ledger
    ledger.close()


def read_pragma(ledger, name):
    bare = ledger.connect()
    with ledger.read() as pooled:
        found = {
            pooled.exec_driver_sql(f"PRAGMA {name}").scalar_one(),
            bare._cursor.execute(f"PRAGMA {name}").fetchone()[0],
        }
    bare.close()
    return found


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("journal_mode", "wal"),
        ("synchronous", 2),  # FULL: an fsync for every commit
        ("foreign_keys", 1),
        ("busy_timeout", sqlite.BUSY_TIMEOUT_MS),
    ],
)
def test_every_connection_is_set_up_to_lose_nothing(ledger, name, value):
    assert read_pragma(ledger, name) == {value}


def test_a_database_that_cannot_be_written_is_not_waited_for(tmp_path):
    module = sqlite.library()
    with closing(module.connect(tmp_path / "ledger")) as connection:
        connection.execute("CREATE TABLE t (x)")
    started = time.monotonic()

    with (
        closing(module.connect(f"file:{tmp_path}/ledger?mode=ro", uri=True)) as sealed,
        pytest.raises(module.OperationalError, match="readonly"),
    ):
        sqlite.prepare(sealed)

    assert time.monotonic() - started < sqlite.WAL_PATIENCE_S / 2


def test_a_lock_counts_as_taken_only_if_it_is_whatever_another_thread_hides(ledger, repeat):
    """The driver asks for an error's code late: a result closed meanwhile makes it none."""
    shared, blocker = ledger.connect(), ledger.connect()
    connection = shared._connection

    def hold_the_lock():
        with blocker.raw_transaction():
            time.sleep(0.001)

    def leave_a_result_unread():
        connection.execute("SELECT name FROM sqlite_master").fetchone()

    cursor = connection.cursor()
    sqlite.wait_alone(cursor)
    had = Counter()
    with repeat(hold_the_lock), repeat(leave_a_result_unread):
        end = time.monotonic() + 2
        while time.monotonic() < end:
            sqlite.begin(cursor, patience_ms=10_000)
            had[connection.in_transaction] += 1
            shared.rollback()
    shared.close()
    blocker.close()

    assert had[True] > 100
    assert not had[False]


@pytest.fixture
def repeat():
    @contextmanager
    def repeat(call):
        over = threading.Event()

        def go():
            while not over.wait(0.0001):
                call()

        thread = threading.Thread(target=go)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    return repeat
