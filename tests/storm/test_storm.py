"""The storm: thousands of tasks while everything around them is killed, frozen and told to leave.

Nothing is lost, nothing finishes twice, the guilty alone are blamed, every record is true. What
happens is drawn by a seed: STORM_SEED=… repeats the requests and the blows, if not the processes'
own timing. LONG=1 has the storm of ten minutes, too.
"""

from __future__ import annotations

import os
import random
import time
from concurrent.futures import wait
from functools import partial
from pathlib import Path

import pytest
from clients import Clients
from crew import Crew
from evidence import gather, has_slow_task, still_open, watch
from fates import requests
from installation import Site
from judge import verdict
from promptness import promptness, report
from weather import LEASE_S, forecast

from postlude.ledger.ledger import Ledger
from postlude.settings import load

HERE = Path(__file__).parent
PATIENCE_S = 240
SHOWN = 40


@pytest.fixture
def seed():
    return int(os.environ.get("STORM_SEED") or random.SystemRandom().randrange(1_000_000))


@pytest.fixture
def site(tmp_path):
    site = Site(
        tmp_path,
        PYTHONPATH=str(HERE),
        STORM_JOURNAL=str(tmp_path / "journal"),
        POSTLUDE_LEASE=f"{LEASE_S}s",
        POSTLUDE_HEARTBEAT=f"{LEASE_S / 4}s",
        dramatiq_restart_delay="500",  # as `postlude run` has it
    )
    site.migrate()
    yield site
    site.close()


@pytest.fixture
def ledger(site):
    ledger = Ledger(load(data_dir=site.data))
    watch(ledger)
    yield ledger
    ledger.close()


def weather(site, ledger, seed, seconds):
    """Live through a storm, wait until all is done, and fail for each broken promise."""
    print(f"STORM_SEED={seed}")
    wanted = requests(seed, seconds)
    crew = Crew(site, partial(has_slow_task, ledger))
    clients = Clients(crew.urls)
    try:
        sent = clients.send(wanted)
        crew.endure(forecast(seed, seconds))
        calm = time.monotonic()
        until(crew, lambda: not wait(sent, 0).not_done, lambda: "requests are not answered")
        until(crew, lambda: not still_open(ledger), lambda: still_open(ledger))
        print(f"all was done {time.monotonic() - calm:.0f} s after the storm")
        for request in sent:
            request.result()
        crew.leave(PATIENCE_S)
    finally:
        clients.close()
    print(*(f"{count} × {event}" for event, count in sorted(crew.seen.items())), sep="\n")
    found = gather(ledger, site.folder / "journal", site.log)
    print(*report(found, crew.freezes), sep="\n")
    faults = [
        *clients.faults,
        *verdict(found, wanted, crew.fallen),
        *promptness(found, crew.freezes),
    ]
    faults += [line for line in site.log.read_text().splitlines() if "this is a bug" in line]
    assert faults[:SHOWN] == [], f"STORM_SEED={seed}: {len(faults)} faults; see {site.log}"


def until(crew, condition, complaint):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, complaint()
        crew.turn()


@pytest.mark.timeout(900)
def test_a_minute_of_storm_breaks_no_promise(site, ledger, seed):
    weather(site, ledger, seed, 60)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_ten_minutes_of_storm_break_no_promise(site, ledger, seed):
    weather(site, ledger, seed, 600)
