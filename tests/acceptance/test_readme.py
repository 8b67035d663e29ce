"""The README is a program: its snippets run, its commands exist, its links lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
USE = """
from fastapi.testclient import TestClient
from postlude.schedules.declare import declarations

test_signup(TestClient(app))
with inline() as tasks:
    steps = TestClient(app).post("/reports/2027").json()["tasks"]
assert [task.id for task in tasks.ran] == steps
assert tasks.ran[1].arguments == {"form": "pdf", "sales": [2027, 1]}
print(*declarations())
"""
COMMANDS = re.findall(r"^\$ (.*)$", README, re.MULTILINE)


def run(program, folder):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "POSTLUDE_DATA_DIR": str(folder / "var")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_app_its_schedule_and_its_test_run_as_printed(tmp_path):
    program = "\n".join([*SNIPPETS, USE])

    done = run(program, tmp_path)

    assert done.returncode == 0, done.stderr
    assert "refresh" in done.stdout
    assert not (tmp_path / "var").exists(), "the test of the README left something behind"


def test_the_first_snippet_shows_what_to_change():
    assert "was: from fastapi import BackgroundTasks" in SNIPPETS[0]


@pytest.mark.parametrize("target", sorted(set(re.findall(r"(?:`|\$ )make (\w+)", README))))
def test_every_make_target_exists(target):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\((?!http)([^)#]+)\)", README))))
def test_every_link_leads_to_a_file(path):
    assert (ROOT / path).exists()


def test_the_test_command_is_the_one_that_ci_runs():
    assert "make test" in COMMANDS
    assert "$(MAKE) --no-print-directory test" in (ROOT / "Makefile").read_text()
    assert "make check" in (ROOT / ".ci" / "run").read_text()


def test_every_setting_that_is_named_exists():
    from postlude.settings import Settings

    known = {f"POSTLUDE_{name.upper()}" for name in Settings.model_fields}
    assert set(re.findall(r"POSTLUDE_[A-Z_]+", README)) <= known
