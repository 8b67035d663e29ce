"""What holds for every test: which run at all."""

from __future__ import annotations

import os
import sys

import pytest

# Tests start a thousand processes: with this set, each of them would compile our source anew, for half
# a second of CPU.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

collect_ignore = [
    "outside"
]  # a project of its own, with its own tests: see acceptance/test_outside


def pytest_collection_modifyitems(items):
    """Skip what is marked ``long`` unless LONG=1."""
    if os.environ.get("LONG", "") not in {"", "0"}:
        return
    skip = pytest.mark.skip(reason="takes long; LONG=1 make test runs it")
    for item in items:
        if item.get_closest_marker("long"):
            item.add_marker(skip)
