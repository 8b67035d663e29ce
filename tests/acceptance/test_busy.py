"""Somebody else has the ledger's write lock, again and again and for long: rule 6."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import pytest

from postlude.ledger.engine import BareConnection, build_engine
from postlude.settings import load

HERE = Path(__file__).parent
CLIENTS = 6
SHORT, LONG, ENDLESS = 0.2, 1.5, 8.0
"""Seconds: less and more than SQLite waits for a lock; more than a request waits, and than the lease."""
STORM = [SHORT] * 8 + [LONG] * 3 + [ENDLESS] + [SHORT] * 4
GAP_S = 0.02
BOUND_S = 5 + 5
"""POSTLUDE_WRITE_TIMEOUT, and what a loaded machine adds."""


@pytest.fixture
def busy_site(site, tmp_path):
    """Two workers, a scheduler and the API."""
    made = site(
        PYTHONPATH=str(HERE),
        TREE_FOLDER=str(tmp_path),
        POSTLUDE_ACTORS="tree_actors",
        POSTLUDE_WORKERS="2",
        POSTLUDE_LOG_FORMAT="json",
    )
    made.migrate()
    made.stack = made.start("postlude.cli", "run")
    made.until(lambda: made.is_ready() and made.told("worker.ready") == 2)
    return made


def hold_the_lock(site, spans):
    """Take the write lock for so many seconds each, as a program that knows nothing of us."""
    engine = build_engine(load(data_dir=site.data))
    with closing(BareConnection(engine)) as connection:
        for span in spans:
            taken = False
            while not taken:
                with suppress(connection.errors):
                    connection.begin()
                    taken = True
            threading.Event().wait(span)
            connection.rollback()
            threading.Event().wait(GAP_S)
    engine.dispose()


def send(site, client, over):
    """Add tasks one after the other until the storm is over; returns what became of each request."""
    found = []
    while not over.is_set():
        word = f"{client}-{len(found)}"
        began = time.monotonic()
        answer = site.web.post("/v1/actors/tree-jot/tasks", json={"args": {"word": word}})
        found.append((word, answer, time.monotonic() - began))
    return found


def test_a_storm_of_locks_loses_nothing_doubles_nothing_and_kills_nobody(busy_site, tmp_path):
    over = threading.Event()
    with ThreadPoolExecutor(CLIENTS) as clients:
        sent = [clients.submit(send, busy_site, number, over) for number in range(CLIENTS)]
        try:
            hold_the_lock(busy_site, STORM)
        finally:
            over.set()
    answers = [found for client in sent for found in client.result()]
    accepted = {word: answer.json() for word, answer, _ in answers if answer.status_code == 202}
    refused = {word: answer.json() for word, answer, _ in answers if answer.status_code != 202}

    assert max(took for _, _, took in answers) < BOUND_S
    assert {(told["status"], told["code"]) for told in refused.values()} <= {
        (503, "ledger-busy"),
        (503, "ledger-unavailable"),
        (503, "accept-unknown"),
    }
    assert accepted
    assert refused
    for task in accepted.values():
        assert busy_site.ended(task["url"])["state"] == "succeeded"
    journal = Counter((tmp_path / "journal").read_text().split())
    unknown = {word for word, told in refused.items() if told["code"] == "accept-unknown"}
    assert set(accepted) <= set(journal) <= set(accepted) | unknown
    assert set(journal.values()) == {1}
    assert busy_site.stack.poll() is None
    assert busy_site.told("worker.ready") == 2
    assert (
        re.findall("reaper.buried|role.hangs|role.killed|born_again", busy_site.log.read_text())
        == []
    )
