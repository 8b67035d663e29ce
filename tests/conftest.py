"""What holds for every test: which run at all, and in which order."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent

# Tests start a thousand processes: with this set, each of them would compile our source anew, for half
# a second of CPU.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

collect_ignore = [
    "outside"
]  # a project of its own, with its own tests: see acceptance/test_outside


ORDER = ("storm", "conformance", "crash", "acceptance", "holes", "bucket")
"""The longest begins first, and what keeps a processor busy runs beside what mostly waits."""


def pytest_collection_modifyitems(items):
    """Put the tests in order; skip what is marked ``long`` unless LONG=1."""
    items.sort(key=_turn)
    if os.environ.get("LONG", "") not in {"", "0"}:
        return
    skip = pytest.mark.skip(reason="takes long; LONG=1 make test runs it")
    for item in items:
        if item.get_closest_marker("long"):
            item.add_marker(skip)


def _turn(item):
    folder = item.path.relative_to(TESTS).parts[0]
    return ORDER.index(folder) if folder in ORDER else len(ORDER)
