"""What schemathesis makes of the OpenAPI description, sent to the API as it runs: with a worker beside.

With a seed it sends the same in every run. LONG=1 sends far more, from a new seed that it tells.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

KEY = "operator-for-schemathesis"
PHASES = "examples,coverage,fuzzing,stateful"
CONFIG = Path(__file__).with_name("schemathesis.toml")


def attack(site, *, examples, patience_s, seed=None, phases=PHASES, headers=None):
    """Let schemathesis loose; returns how it ended and what it says."""
    return subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG)),
            *("run", f"http://127.0.0.1:{site.port}/openapi.json"),
            *("--checks", "all", "--phases", phases),
            *("--max-examples", str(examples), *(("--seed", str(seed)) if seed else ())),
            *("--request-timeout", "30", "--continue-on-failure", "--no-color"),
            *("--generation-with-security-parameters", "false"),
            *(f"--header={name}: {value}" for name, value in (headers or {}).items()),
        ],
        cwd=site.folder,
        capture_output=True,
        text=True,
        timeout=patience_s,
        check=False,
    )


def check(site, done, processes):
    """See that nothing was found, nothing was left out, and nobody died of it."""
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr
    operations = sum(map(len, site.web.get("/openapi.json").json()["paths"].values()))
    assert f"Tested: {operations}" in done.stdout, done.stdout
    assert [process.poll() for process in processes] == [None, None]
    site.until(site.is_ready)


@pytest.fixture
def running(site):
    def run(**wanted):
        made = site(**wanted)
        made.migrate()
        return made, [made.start_api(), made.start_worker()]

    return run


def test_no_answer_is_a_fault_or_undocumented(running):
    site, processes = running()

    done = attack(site, examples=10, patience_s=110, seed=4711)

    check(site, done, processes)
    links = re.search(r"API Links:\s+(\d+) covered", done.stdout)
    assert int(links[1]) >= 5, done.stdout  # from a POST to what it made, for one


def test_nor_is_one_where_keys_are_needed(running):
    key = {"Authorization": f"Bearer {KEY}"}
    site, processes = running(POSTLUDE_API_KEYS=f"operator:{KEY}", headers=key)

    done = attack(
        site, examples=1, patience_s=100, seed=4711, phases="examples,coverage", headers=key
    )

    check(site, done, processes)


@pytest.mark.long
@pytest.mark.timeout(1900)
def test_nor_is_one_among_many_thousand(running):
    site, processes = running()

    done = attack(site, examples=500, patience_s=1800)

    check(site, done, processes)
