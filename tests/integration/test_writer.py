"""The group-committing writer: many writes, one commit; nothing is confirmed before it is durable."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import event, text

from postlude.errors import LedgerBusy, LedgerError
from postlude.ledger import commit, migrate, sqlite
from postlude.ledger.engine import BareConnection
from postlude.ledger.ledger import Ledger
from postlude.ledger.statement import Statement
from postlude.ledger.task import NewTask
from postlude.ledger.transitions.accept import accept
from postlude.settings import load

AT = datetime(2026, 11, 24, tzinfo=UTC)
PATIENCE_S = 20
DUPLICATE = Statement(
    text("INSERT INTO postlude_meta (id, version, compatible_from) VALUES (1, 1, 1)")
)
BAD_VALUE = Statement(text("UPDATE postlude_meta SET version = :value WHERE id = 7"))


@pytest.fixture
def quick(monkeypatch):
    """Locks are waited for in tenths of seconds instead of seconds."""
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_MS", 50)
    monkeypatch.setattr(commit, "RETRY_S", 0.01)
    monkeypatch.setattr(commit, "GIVE_UP_S", 0.3)


@pytest.fixture
def opened(tmp_path):
    """Opens a ledger on the one file of the test."""
    ledgers = []

    def open_ledger(**overrides) -> Ledger:
        settings = load(data_dir=tmp_path, **overrides)
        if not ledgers:
            migrate.upgrade(settings)
        ledgers.append(Ledger(settings))
        return ledgers[-1]

    yield open_ledger
    for ledger in ledgers:
        ledger.close()


@pytest.fixture
def ledger(opened):
    return opened()


def store(name: str):
    """Return a write that stores a task of that id."""
    task = NewTask(
        id=name,
        actor="a",
        queue="q",
        arguments="{}",
        options="{}",
        priority=0,
        run_at=None,
        created_at=AT,
    )
    return lambda tx: accept(tx, task, owner="me")


def stored(ledger) -> list[str]:
    with ledger.read() as connection:
        return list(
            connection.exec_driver_sql("SELECT id FROM postlude_tasks ORDER BY seq").scalars()
        )


@contextmanager
def occupied(ledger):
    """Keep the writer in the middle of a transaction; what is submitted inside waits behind it."""
    inside, go = threading.Event(), threading.Event()

    def write(_tx):
        inside.set()
        assert go.wait(PATIENCE_S)

    first = ledger.submit(write)
    assert inside.wait(PATIENCE_S)
    try:
        yield
    finally:
        go.set()
        first.result(PATIENCE_S)


@contextmanager
def locked(ledger):
    """Hold the write lock, as another process would."""
    other = ledger.connect()
    try:
        with other.transaction():
            yield
    finally:
        other.close()


def trace(ledger) -> list[str]:
    """Return the list of statements that connections taken from now on will run."""
    seen: list[str] = []
    event.listen(ledger._engine, "checkout", lambda c, *_: c.set_trace_callback(seen.append))
    return seen


def test_who_is_interrupted_when_it_has_just_got_the_lock_gives_it_back(ledger, monkeypatch):
    begin, connection = sqlite.begin, ledger.connect()

    def interrupted(cursor, *, patience_ms):
        begin(cursor, patience_ms=patience_ms)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sqlite, "begin", interrupted)
        with pytest.raises(KeyboardInterrupt), connection.raw_transaction():
            pass

    assert ledger.submit(store("next")).result(PATIENCE_S)
    connection.close()


def test_many_writes_share_a_commit(ledger):
    seen = trace(ledger)
    with occupied(ledger):
        futures = [ledger.submit(store(f"{n}")) for n in range(1000)]

    assert all(future.result(PATIENCE_S) for future in futures)
    assert len(stored(ledger)) == 1000
    assert seen.count("COMMIT") == 1 + 2  # the one that was under way; 1000 = 512 + 488


def test_writes_are_stored_in_the_order_in_which_they_were_submitted(ledger):
    with occupied(ledger):
        futures = [ledger.submit(store(f"{n}")) for n in range(600)]
    futures[-1].result(PATIENCE_S)

    assert stored(ledger) == [f"{n}" for n in range(600)]


def test_nothing_is_confirmed_or_visible_before_the_commit(ledger):
    inside, go = threading.Event(), threading.Event()

    def write(tx):
        store("a")(tx)
        inside.set()
        go.wait(PATIENCE_S)

    future = ledger.submit(write)
    inside.wait(PATIENCE_S)
    during = (future.done(), stored(ledger))
    go.set()
    future.result(PATIENCE_S)

    assert (during, stored(ledger)) == ((False, []), ["a"])


def test_what_is_confirmed_is_visible_to_others_at_that_moment(opened):
    ledger, other = opened(), opened()
    seen = []
    with occupied(ledger):
        future = ledger.submit(store("a"))
        future.add_done_callback(lambda _: seen.append(stored(other)))
    future.result(PATIENCE_S)
    ledger.submit(lambda _tx: None).result(PATIENCE_S)

    assert seen == [["a"]]


@pytest.mark.parametrize(
    ("culprit", "error"),
    [
        (lambda _tx: 1 / 0, ZeroDivisionError),
        (lambda tx: tx.run(DUPLICATE), Exception),
        (lambda tx: tx.run(BAD_VALUE, value=2**70), OverflowError),
        (lambda tx: tx.run(BAD_VALUE, value="\ud800"), UnicodeEncodeError),
        (lambda tx: tx.run(BAD_VALUE, value=object()), Exception),
        (lambda tx: (store("its own")(tx), 1 / 0), ZeroDivisionError),
    ],
    ids=["its own fault", "a constraint", "an integer", "a surrogate", "a type", "half done"],
)
def test_a_write_that_raises_fails_alone(ledger, culprit, error):
    with occupied(ledger):
        before = ledger.submit(store("before"))
        bad = ledger.submit(culprit)
        after = ledger.submit(store("after"))

    assert (before.result(PATIENCE_S), after.result(PATIENCE_S)) == (True, True)
    with pytest.raises(error):
        bad.result(PATIENCE_S)
    assert stored(ledger) == ["before", "after"]


def test_a_write_that_raises_when_alone_leaves_the_writer_alive(ledger):
    with pytest.raises(ZeroDivisionError):
        ledger.write(lambda _tx: 1 / 0)

    assert ledger.write(store("a")) is True


def test_beyond_its_bound_the_queue_refuses_and_stores_nothing(opened):
    ledger = opened(write_queue=3)
    with occupied(ledger):
        futures = [ledger.submit(store(f"{n}")) for n in range(3)]
        with pytest.raises(LedgerBusy, match="3 writes are waiting already; nothing was stored"):
            ledger.submit(store("one too many"))
    for future in futures:
        future.result(PATIENCE_S)

    assert stored(ledger) == ["0", "1", "2"]
    assert ledger.write(store("3")) is True


def test_a_write_that_nobody_waits_for_any_more_is_not_run(ledger):
    with occupied(ledger):
        future = ledger.submit(store("a"))
        assert future.cancel()
        ledger.submit(store("b"))
    ledger.submit(lambda _tx: None).result(PATIENCE_S)

    assert stored(ledger) == ["b"]


def test_a_lock_held_by_another_process_is_waited_for(quick, ledger):
    with locked(ledger):
        future = ledger.submit(store("a"))
        assert not future.done()

    assert future.result(PATIENCE_S) is True


def test_a_lock_that_is_not_let_go_ends_in_an_honest_error_and_the_writer_lives(quick, ledger):
    with locked(ledger):
        with pytest.raises(LedgerError, match="database is locked; nothing was stored"):
            ledger.submit(store("a")).result(PATIENCE_S)
        assert stored(ledger) == []

    assert ledger.write(store("b")) is True
    assert stored(ledger) == ["b"]


def test_a_patient_write_outlives_what_others_give_up_on(quick, ledger):
    with locked(ledger):
        outcome = ledger.submit(store("outcome"), patient=True)
        for _ in range(2):
            with pytest.raises(LedgerError):
                ledger.write(store("request"), timeout=timedelta(seconds=0.4))
        assert not outcome.done()

    assert outcome.result(PATIENCE_S) is True
    assert stored(ledger) == ["outcome"]


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_commit_whose_fate_is_unknown_is_replayed(quick, monkeypatch, ledger, when):
    transaction = BareConnection.raw_transaction
    failures = [sqlite.library().OperationalError("disk I/O error")]

    @contextmanager
    def lose_the_answer(connection):
        with transaction(connection) as tx:
            yield tx
            if failures and when == "before":
                raise failures.pop()
        if failures:
            raise failures.pop()

    monkeypatch.setattr(BareConnection, "raw_transaction", lose_the_answer)

    assert ledger.write(store("a")) is True
    assert (stored(ledger), failures) == (["a"], [])


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_the_writer_outlives_whatever_a_write_raises(ledger, error):
    def leave(_tx):
        raise error

    with pytest.raises(error):
        ledger.submit(leave).result(PATIENCE_S)

    assert ledger.write(store("a")) is True


def test_what_has_happened_already_is_let_in_beyond_the_bound(opened):
    ledger = opened(write_queue=1)
    with occupied(ledger):
        ledger.submit(store("a"))
        outcomes = [ledger.submit(store(f"outcome {n}"), patient=True) for n in range(9)]
        with pytest.raises(LedgerBusy):
            ledger.submit(store("one too many"))
    for outcome in outcomes:
        outcome.result(PATIENCE_S)

    assert len(stored(ledger)) == 10


def test_after_a_bad_write_a_lock_is_waited_for_once_and_not_by_each(quick, ledger):
    away = sqlite.library().OperationalError("database is locked")
    turns = []

    def good(_tx):
        turns.append(1)
        if len(turns) > 20:  # the others of the batch go one by one by now
            raise away

    with occupied(ledger):
        futures = [ledger.submit(good) for _ in range(20)]
        ledger.submit(lambda _tx: 1 / 0)
    started = time.monotonic()
    for future in futures:
        with pytest.raises(LedgerError, match="nothing was stored"):
            future.result(PATIENCE_S)

    assert time.monotonic() - started < 5 * commit.GIVE_UP_S


def test_closing_stores_what_waits(opened):
    ledger, other = opened(), opened()
    with occupied(ledger):
        futures = [ledger.submit(store(f"{n}")) for n in range(700)]
        closing = threading.Thread(target=ledger.close)
        closing.start()
    closing.join(PATIENCE_S)

    assert all(future.result(0) for future in futures)
    assert len(stored(other)) == 700


def test_a_closed_ledger_refuses_and_stores_nothing(opened):
    ledger, other = opened(), opened()
    ledger.close()

    for patient in (False, True):
        with pytest.raises(LedgerBusy, match="closing in this process; nothing was stored"):
            ledger.submit(store("a"), patient=patient)
    assert stored(other) == []


def test_two_writers_on_one_file_take_turns(opened):
    ledgers = [opened(), opened()]
    futures = [ledgers[n % 2].submit(store(f"{n}")) for n in range(400)]

    assert all(future.result(PATIENCE_S) for future in futures)
    assert sorted(stored(ledgers[0]), key=int) == [f"{n}" for n in range(400)]


def test_a_committed_write_survives_in_the_file(ledger, tmp_path):
    ledger.write(store("a"))
    library = sqlite.library()

    with library.connect(tmp_path / "postlude.db") as connection:
        assert connection.execute("SELECT id FROM postlude_tasks").fetchall() == [("a",)]
    connection.close()


def crowd(ledger, *, pages: int) -> None:
    """Let connections taken from now on add so many pages to the database (SQLITE_FULL beyond)."""

    def limit(connection, *_):
        count = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {count + pages}")

    event.listen(ledger._engine, "checkout", limit)


def test_a_write_that_the_disk_has_no_room_for_fails_alone_and_at_once(ledger):
    crowd(ledger, pages=4)
    large = NewTask("large", "a", "q", f'"{"x" * 100_000}"', "{}", 0, None, AT)
    started = time.monotonic()
    with occupied(ledger):
        before = ledger.submit(store("before"), patient=True)
        doomed = ledger.submit(lambda tx: accept(tx, large, owner="me"), patient=True)
        after = ledger.submit(store("after"))

    with pytest.raises(commit.NoRoom, match="no room for this: database or disk is full"):
        doomed.result(PATIENCE_S)
    assert [before.result(PATIENCE_S), after.result(PATIENCE_S)] == [True, True]
    assert stored(ledger) == ["before", "after"]
    assert time.monotonic() - started < commit.GIVE_UP_S


def test_a_sender_is_told_at_once_that_the_disk_is_full(ledger):
    crowd(ledger, pages=4)
    large = NewTask("large", "a", "q", f'"{"x" * 100_000}"', "{}", 0, None, AT)

    with pytest.raises(LedgerError, match="nothing was stored, make room on its disk") as caught:
        ledger.write(lambda tx: accept(tx, large, owner="me"))

    assert (caught.value.code, caught.value.status) == ("ledger-unavailable", 503)


LIMITED = """
import resource
from postlude.ledger import migrate
from postlude.ledger.commit import NoRoom
from postlude.ledger.ledger import Ledger
from postlude.ledger.statement import Statement
from postlude.settings import load
from sqlalchemy import text

settings = load()
migrate.upgrade(settings)
ledger = Ledger(settings)
keep = Statement(text("INSERT INTO postlude_deleted (id, deleted_at) VALUES (:id, 0)"))
ledger.write(lambda tx: tx.run(keep, id="before"))
size = (settings.data_dir / "postlude.db-wal").stat().st_size + 100_000
resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
large = ledger.submit(lambda tx: tx.run(keep, id="x" * 400_000), patient=True)
small = ledger.submit(lambda tx: tx.run(keep, id="small"))
print(isinstance(large.exception(10), NoRoom), small.result(10))
ledger.close()
"""


def test_a_limit_of_the_system_is_a_disk_that_is_full(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", LIMITED],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"POSTLUDE_DATA_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.stdout.splitlines()[-1:] == ["True 1"], done.stdout + done.stderr


def test_whoever_waits_gets_the_lock_in_the_short_gaps_that_a_busy_writer_leaves(ledger):
    """SQLite's own waiting looks ten times a second in the end, and misses them for a second."""
    over, taken, pause = threading.Event(), threading.Event(), threading.Event()

    def keep_busy():
        with closing(ledger.connect()) as busy:
            while not over.is_set():
                with busy.raw_transaction():
                    taken.set()
                    pause.wait(0.14)
                pause.wait(0.008)

    holder = threading.Thread(target=keep_busy)
    holder.start()
    try:
        with closing(ledger.connect()) as connection:
            for _ in range(12):
                taken.clear()
                assert taken.wait(PATIENCE_S)
                with connection.raw_transaction():
                    pass
    finally:
        over.set()
        holder.join()
