"""The cache, in the ledger and in Redis: one loads, the others wait for nothing, old values stay."""

from __future__ import annotations

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from dramatiq.middleware import TimeLimitExceeded
from sqlalchemy import text

from actors.cache import LEASE, LIMIT, SOON, loaders, refresh_cache, store, tables
from actors.cache.contract import Entry, Verdict
from actors.cache.loaders import loader
from postlude import process, testing
from postlude.errors import BadResult, LedgerError
from postlude.ledger import clock
from postlude.ledger.migrate import upgrade
from postlude.ledger.statement import Statement
from postlude.settings import load, settings

ROOT = Path(__file__).parents[2]
SECOND = timedelta(seconds=1)
START = datetime(2026, 11, 24, 9, tzinfo=UTC)
PATIENCE_S = 30
SLOW = """
import sys, time
from pathlib import Path
from actors.cache import refresh_cache
from actors.cache.loaders import loader
from postlude import process

folder = Path(sys.argv[1])

@loader("slow", fresh_for="1m")
def load(connection, now):
    with (folder / "loads").open("a") as loads:
        loads.write("load\\n")
    deadline = time.monotonic() + 30
    while not (folder / "go").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return "value"

process.current()
print("ready", flush=True)
sys.stdin.readline()
print(refresh_cache.fn("slow"), flush=True)
process.close()
"""


@pytest.fixture(scope="module")
def blank(tmp_path_factory):
    """A migrated ledger that no process has open: copying it is quicker than migrating anew."""
    chosen = load(data_dir=tmp_path_factory.mktemp("blank"))
    upgrade(chosen)
    return chosen.data_dir / "postlude.db"


@pytest.fixture
def ledger(tmp_path, monkeypatch, blank):
    """Be a process of its own, with loaders of its own."""
    monkeypatch.setenv("POSTLUDE_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(loaders, "_loaders", dict(loaders._loaders))
    settings.cache_clear()
    process.close()
    shutil.copy(blank, tmp_path)
    yield process.current().ledger
    process.close()
    settings.cache_clear()


@pytest.fixture(params=["in the ledger", "in Redis"])
def cache(request, ledger, monkeypatch):
    """Every place that a cache can be kept in; all of them do the same."""
    if request.param == "in Redis":
        server = request.getfixturevalue("redis_server")
        monkeypatch.setenv("POSTLUDE_CACHE_URL", server.url)
        settings.cache_clear()
        process.close()
    return store.current()


@pytest.fixture
def answers(cache):
    """What the loader of "answer" returns, or raises, one time after the other."""
    left = []

    @loader("answer", fresh_for="1m")
    def load(connection, now):
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer() if callable(answer) else answer

    return left


def entry(cache, key="answer", at=None):
    return cache.get(key, at or clock.now())


def take(cache, task, at, *, wanted=None):
    return cache.take("answer", task=task, wanted=wanted, now=at, lease=10 * SECOND)


def keep(cache, task, since, value='"value"'):
    return cache.keep("answer", value, task=task, since=since)


def test_the_migration_makes_exactly_the_table_of_the_code(ledger):
    def ours(thing, name, kind, *_):
        table = thing if kind == "table" else thing.table
        return table.name in tables.metadata.tables

    with ledger.read() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "include_object": ours}
        )
        assert compare_metadata(context, tables.metadata) == []


# Loading


def test_what_was_loaded_can_be_read_with_its_age(cache, answers):
    answers.append({"n": [1, None, "ü"]})
    before = clock.now()

    assert refresh_cache("answer") == "loaded"

    found = entry(cache)
    assert found.value == {"n": [1, None, "ü"]}
    assert before <= found.as_of <= clock.now()
    assert (found.loading, found.error, found.failed_at) == (False, None, None)


def test_before_the_first_load_there_is_nothing(cache):
    assert entry(cache) == Entry()


def test_null_is_a_value_like_any_other(cache, answers):
    answers.append(None)

    refresh_cache("answer")

    assert entry(cache).value is None
    assert entry(cache).as_of is not None


def test_one_load_serves_all_who_asked_before_it_began(cache, answers):
    answers.append("first")
    asked = [clock.now() for _ in range(3)]

    assert [refresh_cache("answer", as_of=at) for at in asked] == ["loaded", "fresh", "fresh"]


def test_who_asks_later_gets_a_load_that_began_later(cache, answers):
    answers.extend(["first", "second"])

    refresh_cache("answer", as_of=clock.now())
    refresh_cache("answer", as_of=clock.now())

    assert entry(cache).value == "second"


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (ValueError("the source is gone"), ValueError, "ValueError: the source is gone"),
        ({"x": float("nan")}, BadResult, "NaN"),
        ("x" * 1_100_000, BadResult, "over the limit"),
        (object, BadResult, "cannot be stored as JSON"),
    ],
)
def test_a_failed_refresh_keeps_the_old_value_and_says_so(cache, answers, answer, error, words):
    answers.append("old")
    refresh_cache("answer")
    old = entry(cache)
    answers.append(answer)

    with pytest.raises(error):
        refresh_cache("answer")

    found = entry(cache)
    assert (found.value, found.as_of) == (old.value, old.as_of)
    assert words in found.error
    assert found.failed_at >= old.as_of
    assert not found.loading


def test_the_next_load_that_succeeds_clears_the_error(cache, answers):
    answers.extend([OSError("no"), "new"])
    with pytest.raises(OSError, match="no"):
        refresh_cache("answer")

    assert refresh_cache("answer") == "loaded"
    assert entry(cache).error is None
    assert entry(cache).failed_at is None


@pytest.mark.parametrize("words", ["x" * 10**6, "half \ud800, none \0"])
def test_no_text_of_an_error_keeps_it_from_being_noted(cache, answers, words):
    answers.append(KeyError(words))
    with pytest.raises(KeyError):
        refresh_cache("answer")

    assert entry(cache).error.startswith("KeyError: ")
    assert len(entry(cache).error) <= 1000
    assert not entry(cache).loading


def test_a_load_that_takes_too_long_is_noted_as_any_failure(cache, answers):
    answers.append(raising(TimeLimitExceeded()))
    with pytest.raises(TimeLimitExceeded):
        refresh_cache("answer")

    assert entry(cache).error.startswith("TimeLimitExceeded")


def raising(error):
    def load():
        raise error

    return load


# Single flight


def test_two_processes_that_refresh_one_key_at_once_load_it_once(cache, tmp_path):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    command = [sys.executable, "-c", SLOW, str(tmp_path)]
    both = [subprocess.Popen(command, cwd=ROOT, **pipes) for _ in range(2)]
    for each in both:
        assert each.stdout.readline() == "ready\n"
    for each in both:
        each.stdin.write("go\n")
        each.stdin.flush()

    # Whoever lost says so while the other is still loading.
    lost = subprocess_that_answers(both)
    assert lost.communicate(timeout=PATIENCE_S)[0] == "under way\n"
    assert entry(cache, "slow").loading
    (tmp_path / "go").touch()
    (won,) = [each for each in both if each is not lost]
    assert won.communicate(timeout=PATIENCE_S)[0] == "loaded\n"

    assert (tmp_path / "loads").read_text() == "load\n"
    assert entry(cache, "slow").value == "value"


def subprocess_that_answers(processes):
    """Wait for the one that ends first."""
    from selectors import EVENT_READ, DefaultSelector

    with DefaultSelector() as selector:
        for each in processes:
            selector.register(each.stdout, EVENT_READ, each)
        ((key, _), *_) = selector.select(PATIENCE_S)
    return key.data


def test_a_second_task_does_not_load_while_the_first_does(cache):
    assert take(cache, "one", START) is Verdict.LOAD
    assert take(cache, "two", START + SECOND) is Verdict.UNDER_WAY
    assert keep(cache, "one", START) is None
    assert entry(cache, at=START).as_of == START


def test_whoever_needs_a_later_one_leaves_that_to_the_one_who_loads(cache):
    take(cache, "one", START)
    for seconds in (2, 1):
        wanted = START + seconds * SECOND
        assert take(cache, "two", START + 3 * SECOND, wanted=wanted) is Verdict.UNDER_WAY

    assert keep(cache, "one", START) == START + 2 * SECOND


def test_whoever_is_served_by_the_load_under_way_wants_nothing_more(cache):
    take(cache, "one", START)
    assert take(cache, "two", START + SECOND, wanted=START) is Verdict.UNDER_WAY

    assert keep(cache, "one", START) is None


@pytest.mark.parametrize("ahead", [timedelta(0), timedelta(days=1)])
def test_what_was_written_during_a_load_is_loaded_after_it(cache, answers, ahead):
    def write_meanwhile():
        assert refresh_cache("answer", as_of=clock.now() + ahead) == "under way"
        return "too early"

    answers.extend([write_meanwhile, "with the write"])

    with testing.inline() as tasks:
        assert refresh_cache("answer") == "loaded"

    (task,) = tasks.ran
    assert (task.actor, task.result, task.delay) == ("refresh_cache", "loaded", SOON)
    assert task.arguments["as_of"] <= clock.now(), "nothing can be as of the future"
    assert entry(cache).value == "with the write"
    assert answers == []


def test_a_wish_is_not_fulfilled_twice(cache):
    take(cache, "one", START)
    take(cache, "two", START + SECOND, wanted=START + SECOND)
    keep(cache, "one", START)
    take(cache, "three", START + 2 * SECOND)

    assert keep(cache, "three", START + 2 * SECOND) is None


# Death


def test_a_task_that_runs_again_takes_its_own_lease_at_once(cache):
    take(cache, "one", START)

    assert take(cache, "one", START + SECOND) is Verdict.LOAD


def test_the_lease_of_a_dead_task_runs_out(cache):
    take(cache, "dead", START)

    assert entry(cache, at=START + 10 * SECOND).loading
    assert not entry(cache, at=START + 11 * SECOND).loading
    assert take(cache, "two", START + 10 * SECOND) is Verdict.UNDER_WAY
    assert take(cache, "two", START + 11 * SECOND) is Verdict.LOAD


def test_a_clock_that_is_set_back_holds_nobody_up_for_long(cache):
    hour = timedelta(hours=1)
    take(cache, "before", START + hour)
    assert take(cache, "after", START, wanted=START) is Verdict.LOAD
    keep(cache, "after", START)

    take(cache, "before", START + hour)
    keep(cache, "before", START + hour)
    assert take(cache, "after", START, wanted=START) is Verdict.LOAD


def test_a_lease_outlasts_every_load():
    assert refresh_cache.options["time_limit"] == LIMIT.total_seconds() * 1000
    assert LEASE > LIMIT


def test_what_a_task_loaded_under_a_lease_that_ran_out_is_dropped(cache):
    take(cache, "slow", START)
    take(cache, "two", START + 11 * SECOND)

    assert keep(cache, "slow", START, '"old"') is None
    assert entry(cache, at=START + 11 * SECOND).loading
    keep(cache, "two", START + 11 * SECOND, '"new"')
    keep(cache, "slow", START, '"old"')
    assert entry(cache).value == "new"


def test_an_earlier_run_of_the_same_task_cannot_pass_its_value_off_as_newer(cache):
    take(cache, "one", START)
    take(cache, "one", START + 5 * SECOND)

    keep(cache, "one", START, '"old"')
    cache.fail("answer", "old", task="one", since=START, now=START)

    found = entry(cache, at=START + 6 * SECOND)
    assert (found.as_of, found.error, found.loading) == (None, None, True)


def test_whoever_takes_the_lease_once_more_has_it_and_loses_no_wish(cache):
    assert take(cache, "one", START) is Verdict.LOAD
    take(cache, "two", START + 2 * SECOND, wanted=START + SECOND)

    assert take(cache, "one", START) is Verdict.LOAD
    assert keep(cache, "one", START) == START + SECOND


def test_whoever_keeps_a_value_once_more_is_told_the_same(cache):
    take(cache, "one", START)
    take(cache, "two", START + 2 * SECOND, wanted=START + SECOND)

    assert [keep(cache, "one", START) for _ in range(2)] == [START + SECOND] * 2
    assert (entry(cache).value, entry(cache).as_of) == ("value", START)


def test_a_failure_that_is_noted_once_more_is_noted(cache):
    take(cache, "one", START)

    for _ in range(2):
        cache.fail("answer", "no", task="one", since=START, now=START + SECOND)

    assert (entry(cache).error, entry(cache).failed_at) == ("no", START + SECOND)


def test_a_failure_after_the_lease_was_taken_over_is_not_noted(cache):
    take(cache, "slow", START)
    take(cache, "two", START + 11 * SECOND)

    cache.fail("answer", "no", task="slow", since=START, now=START + 12 * SECOND)

    assert entry(cache, at=START + 12 * SECOND) == Entry(loading=True)


def test_instants_keep_their_microseconds(cache):
    at = datetime(2187, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
    micro = timedelta(microseconds=1)
    assert take(cache, "one", at, wanted=at) is Verdict.LOAD
    assert take(cache, "two", at + micro, wanted=at + micro) is Verdict.UNDER_WAY

    assert keep(cache, "one", at) == at + micro
    assert entry(cache, at=at).as_of == at
    assert take(cache, "two", at + micro, wanted=at) is Verdict.FRESH
    assert take(cache, "two", at + micro, wanted=at + micro) is Verdict.LOAD


def test_a_value_of_the_largest_size_is_kept_as_it_is(cache, answers):
    value = "ü\n\u2028" * 100_000
    answers.append(value)

    refresh_cache("answer")

    assert entry(cache).value == value


# Readers


def test_one_reader_asks_and_then_nobody_for_a_while(cache):
    pause = 10 * SECOND

    def ask(at):
        return cache.ask("answer", now=at, pause=pause)

    assert [ask(START), ask(START), ask(START + pause)] == [True, False, False]
    assert ask(START + 11 * SECOND)
    assert ask(START), "the clock was set back"
    assert entry(cache).asked_at == START


def test_of_readers_at_once_one_asks(cache):
    with ThreadPoolExecutor(8) as readers:
        asked = readers.map(lambda _: cache.ask("answer", now=START, pause=SECOND), range(40))

        assert sorted(asked) == [False] * 39 + [True]


def test_of_threads_at_once_one_takes_the_lease(cache):
    with ThreadPoolExecutor(8) as threads:
        verdicts = list(threads.map(lambda number: take(cache, str(number), START), range(40)))

    assert sorted(verdicts) == [Verdict.LOAD] + [Verdict.UNDER_WAY] * 39


# File stats


def test_files_are_counted_by_what_became_of_them(cache):
    add = Statement(
        text("""
        INSERT INTO files (id, name, size, sha256, task, created_at, type, fault, processed_at)
        VALUES (:id, 'n', :size, '', '', 0, :type, :fault, :at)""")
    )
    kinds = [
        ("image/png", None, 1, 10),
        ("image/png", None, 1, 20),
        ("text/csv", None, 1, 3),
        ("image/png", "a bomb", 1, 1),
        (None, None, None, 100),
    ]

    def write(tx):
        for number, (type_, fault, at, size) in enumerate(kinds):
            tx.run(add, id=str(number), size=size, type=type_, fault=fault, at=at)

    process.current().ledger.write(write)

    refresh_cache("file-stats")

    assert entry(cache, "file-stats").value == {
        "count": 5,
        "bytes": 134,
        "waiting": 1,
        "processed": 3,
        "faulty": 1,
        "types": {"image/png": 2, "text/csv": 1},
    }


def test_a_table_that_is_missing_is_a_failed_refresh_that_names_it(cache):
    process.current().ledger.write(lambda tx: tx.run(Statement(text("DROP TABLE files"))))

    with pytest.raises(LedgerError):
        refresh_cache("file-stats")

    assert "no such table: files" in entry(cache, "file-stats").error
