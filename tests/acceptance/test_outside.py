"""A project that has Postlude installed and nothing else of this repository passes its own tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def abroad(tmp_path):
    """Copy the package as its wheel holds it, and the project; return what runs a program there."""
    site, project = tmp_path / "site", tmp_path / "project"
    leave_out = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "postlude", site / "postlude", ignore=leave_out)
    shutil.copytree(ROOT / "tests" / "outside", project, ignore=leave_out)
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("POSTLUDE_", "PYTEST_"))}

    def run(*arguments):
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=project,
            env=clean | {"PYTHONPATH": str(site)},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    return run


@pytest.mark.parametrize("package", ["api", "actors", "scheduler"])
def test_there_is_nothing_of_the_repository_there(abroad, package):
    done = abroad("-c", f"import postlude, {package}")

    assert f"No module named '{package}'" in done.stderr


def test_it_passes_its_own_tests(abroad):
    done = abroad("-m", "pytest", "-q")

    assert done.returncode == 0, done.stdout[-8000:] + done.stderr
    assert "6 passed" in done.stdout
