"""An open ledger: what a caller learns when it is busy, away, too old, too new or not to be opened."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import timedelta

import pytest
from sqlalchemy import text

from postlude.errors import AcceptUnknown, LedgerBusy, LedgerError, LedgerTooNew, LedgerTooOld
from postlude.ledger import migrate, schema
from postlude.ledger.engine import build_engine
from postlude.ledger.ledger import Ledger
from postlude.ledger.statement import Statement
from postlude.settings import load

PATIENCE_S = 20
SHORT = timedelta(milliseconds=50)
NOTE = Statement(
    text("""
    INSERT INTO postlude_incarnations
        (id, kind, host, pid, version, queues, heartbeat, started_at, beat_at)
    VALUES (:id, '', '', 0, '', '[]', 0, 0, 0)""")
)
VERSION = Statement(
    text("UPDATE postlude_meta SET version = :version, compatible_from = :compatible_from")
)


@pytest.fixture
def settings(tmp_path):
    settings = load(data_dir=tmp_path)
    migrate.upgrade(settings)
    return settings


@pytest.fixture
def ledger(settings):
    ledger = Ledger(settings)
    yield ledger
    ledger.close()


def note(word: str):
    return lambda tx: tx.run(NOTE, id=word)


def notes(ledger) -> list[str]:
    with ledger.read() as connection:
        return list(connection.exec_driver_sql("SELECT id FROM postlude_incarnations").scalars())


@contextmanager
def slow(ledger, write=lambda _tx: None):
    """Let ``write`` take as long as the block; yields its future."""
    inside, go = threading.Event(), threading.Event()

    def run(tx):
        write(tx)
        inside.set()
        assert go.wait(PATIENCE_S)

    future = ledger.submit(run)
    assert inside.wait(PATIENCE_S)
    try:
        yield future
    finally:
        go.set()
        future.result(PATIENCE_S)


def test_a_write_returns_what_its_function_returns_once_that_is_stored(ledger):
    assert ledger.write(note("a")) == 1
    assert notes(ledger) == ["a"]


def test_a_write_raises_what_its_function_raises(ledger):
    with pytest.raises(KeyError, match="mine"):
        ledger.write(lambda _tx: {}["mine"])


def test_a_write_that_did_not_begin_in_time_was_not_stored_and_never_will_be(ledger):
    with (
        slow(ledger),
        pytest.raises(LedgerBusy, match=r"did not get to this write within 0\.05 s; nothing was"),
    ):
        ledger.write(note("late"), timeout=SHORT)
    ledger.write(note("next"))

    assert notes(ledger) == ["next"]


def test_a_write_that_is_under_way_at_its_deadline_may_be_stored(ledger):
    go = threading.Event()

    def write(tx):
        note("slow")(tx)
        go.wait(PATIENCE_S)

    with pytest.raises(AcceptUnknown, match=r"did not confirm this write within 0\.5 s; it may be"):
        ledger.write(write, timeout=timedelta(seconds=0.5))
    go.set()
    ledger.write(lambda _tx: None)

    assert notes(ledger) == ["slow"]


def test_the_deadline_is_a_setting(tmp_path, settings):
    ledger = Ledger(load(data_dir=tmp_path, write_timeout="20ms"))

    with slow(ledger), pytest.raises(LedgerBusy, match=r"within 0\.02 s"):
        ledger.write(note("late"))
    ledger.close()


def test_readers_do_not_wait_for_writers(ledger):
    with slow(ledger, note("unseen")):
        assert notes(ledger) == []


def test_a_connection_of_ones_own_commits_a_block_or_undoes_it(ledger):
    connection = ledger.connect()
    with connection.transaction() as tx:
        tx.run(NOTE, id="kept")
    with pytest.raises(ZeroDivisionError), connection.transaction() as tx:
        assert tx.run(NOTE, id="undone") / 0
    with pytest.raises(LedgerError, match="could not be written"), connection.transaction() as tx:
        tx.run(NOTE, id="kept")
    with connection.transaction() as tx:
        tx.run(NOTE, id="kept too")
    connection.close()

    assert notes(ledger) == ["kept", "kept too"]


def test_the_data_version_tells_of_commits_of_others_alone(ledger):
    watching = ledger.connect()
    before = watching.data_version()
    quiet = watching.data_version()
    ledger.write(note("news"))

    assert quiet == before
    assert watching.data_version() != before
    watching.close()


def test_a_ledger_that_does_not_answer_is_an_error_of_ours(ledger, tmp_path):
    ledger._engine.dispose()
    (tmp_path / "postlude.db").rename(tmp_path / "moved.db")
    (tmp_path / "postlude.db").mkdir()

    with pytest.raises(LedgerError, match="could not be read: unable to open"), ledger.read():
        pass


def test_a_connection_that_cannot_be_opened_is_an_error_of_ours(ledger, tmp_path):
    ledger._engine.dispose()
    (tmp_path / "postlude.db").rename(tmp_path / "moved.db")
    (tmp_path / "postlude.db").mkdir()

    with pytest.raises(LedgerError, match="could not be opened: unable to open"):
        ledger.connect()


def test_a_timeout_of_the_write_itself_is_not_taken_for_the_deadline(ledger):
    def late(_tx):
        message = "mine"
        raise TimeoutError(message)

    with pytest.raises(TimeoutError, match="mine"):
        ledger.write(late)


def test_an_answer_that_comes_at_the_last_moment_counts(ledger, monkeypatch):
    class LastMoment(Future):
        def done(self):
            if not super().done():
                self.set_result("stored")
            return super().done()

    answer = LastMoment()
    answer.set_running_or_notify_cancel()
    monkeypatch.setattr(ledger, "submit", lambda _write: answer)

    assert ledger.write(lambda _tx: None, timeout=SHORT) == "stored"


def test_a_query_that_fails_is_an_error_of_ours(ledger):
    with (
        pytest.raises(LedgerError, match="could not be read: no such table: nowhere"),
        ledger.read() as connection,
    ):
        connection.exec_driver_sql("SELECT 1 FROM nowhere")


def test_an_empty_database_says_what_to_run(tmp_path):
    with pytest.raises(LedgerTooOld, match=r"schema none, this code needs 1: run `postlude migr"):
        Ledger(load(data_dir=tmp_path))


@pytest.mark.parametrize(
    ("found", "error", "words"),
    [
        ({"version": 0, "compatible_from": 0}, LedgerTooOld, "schema 0, .*run `postlude migrate`"),
        (
            {"version": 9, "compatible_from": 5},
            LedgerTooNew,
            "needs code of schema version 5 or later",
        ),
    ],
)
def test_tables_that_do_not_fit_this_code_are_refused(ledger, settings, found, error, words):
    ledger.write(lambda tx: tx.run(VERSION, **found))

    with pytest.raises(error, match=words) as caught:
        Ledger(settings)

    assert "postlude.db" in str(caught.value)


def test_newer_tables_are_fine_as_long_as_they_say_so(ledger, settings):
    newer = {"version": schema.VERSION + 8, "compatible_from": schema.VERSION}
    ledger.write(lambda tx: tx.run(VERSION, **newer))

    Ledger(settings).close()


def test_a_database_that_is_not_supported_is_refused_without_its_password():
    with pytest.raises(LedgerError, match="names postgresql, which this version") as caught:
        build_engine(load(database_url="postgresql://me:hunter2@localhost/x"))

    assert "hunter2" not in str(caught.value)


def test_a_folder_that_cannot_be_made_is_refused_by_its_name(tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(LedgerError, match=r"POSTLUDE_DATA_DIR .*/file/data cannot be made: Not a"):
        build_engine(load(data_dir=tmp_path / "file" / "data"))
