"""Dramatiq's own tests, over our broker: they pass, but for those listed with the reason why not.

They are LGPL and no part of this repository. ``DRAMATIQ_TESTS`` names a checkout of Dramatiq; without
it they are downloaded, once, at the commit that ``cannot_apply.toml`` names. Empty, it leaves them out.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path, PurePosixPath
from urllib.error import URLError
from urllib.request import urlopen

import dramatiq
import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
LISTED = tomllib.loads((HERE / "cannot_apply.toml").read_text())
FAILS = LISTED["fails"]
SOURCE = LISTED["source"]
REPOSITORY = "https://github.com/Bogdanp/dramatiq"
ARCHIVE = f"{REPOSITORY}/archive/{SOURCE['commit']}.tar.gz"
HINT = (
    f"get Dramatiq's own tests with: git clone {REPOSITORY}, at {SOURCE['commit'][:12]}, "
    "and name that folder in DRAMATIQ_TESTS"
)
SHARES = 3
"""So many processes: the tests wait far more than they compute."""
SECOND_CHANCES = 2
"""So often what has failed beside others is tried again alone: many of the tests measure time."""

pytestmark = pytest.mark.timeout(400)


def absent(why):
    if os.environ.get("REQUIRE_SERVICES"):
        pytest.fail(f"{why}; {HINT}")
    pytest.skip(f"{why}; {HINT}")


@pytest.fixture(scope="module")
def theirs(request, tmp_path_factory):
    """A folder whose ``tests`` are Dramatiq's, and nothing beside them."""
    given = os.environ.get("DRAMATIQ_TESTS")
    if given == "":
        pytest.skip(f"DRAMATIQ_TESTS is empty; {HINT}")
    folder = (
        Path(given).absolute()
        if given
        else request.config.cache.mkdir(f"dramatiq-{SOURCE['commit'][:12]}")
    )
    if given:
        assert (folder / "tests/test_actors.py").exists(), f"no checkout of Dramatiq at {given}"
    elif digest(folder / "tests") != SOURCE["sha256"]:
        download(folder)
    place = tmp_path_factory.mktemp("dramatiq")
    for path in sources(folder / "tests"):
        copy = place / path.relative_to(folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    return place


def sources(folder):
    return sorted(folder.rglob("*.py"))


def digest(folder):
    found = hashlib.sha256()
    for path in sources(folder):
        found.update(f"{path.relative_to(folder).as_posix()}\0".encode() + path.read_bytes())
    return found.hexdigest()


def download(folder):
    try:
        with urlopen(ARCHIVE, timeout=20) as answer:
            archive = answer.read()
    except (URLError, OSError) as error:
        absent(f"{ARCHIVE} does not answer ({error})")
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        for file in files:
            place = PurePosixPath(*PurePosixPath(file.name).parts[1:])
            if file.isfile() and place.suffix == ".py" and place.parts[0] == "tests":
                target = folder / place
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(files.extractfile(file).read())
    assert digest(folder / "tests") == SOURCE["sha256"], f"{ARCHIVE} is not what it was"


@pytest.fixture(scope="module")
def verdicts(theirs, tmp_path_factory):
    """What became of each of their tests: name → outcome and, of a failure, why."""
    reports = tmp_path_factory.mktemp("reports")
    running = [
        start(theirs, reports / str(share), f"{share}/{SHARES}", "tests") for share in range(SHARES)
    ]
    found = {}
    try:
        for report, process in running:
            found |= result(report, process)
    finally:
        for _, process in running:
            process.kill()
    for _ in range(SECOND_CHANCES):
        unexpected = [f"tests/{name}" for name in failed(found) if name not in FAILS]
        if unexpected:
            found |= result(*start(theirs, reports / "again", "0/1", *unexpected))
    return found


def start(theirs, report, share, *tests):
    """Start a pytest in their folder, with our plugin instead of their conftest."""
    left_out = [f"--ignore=tests/{name}" for name in LISTED["not_run"] if "::" not in name]
    alone = ["-c", os.devnull, "--rootdir", ".", "--noconftest", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *alone, "-p", "dramatiq_guests", "--timeout", "30"]
    variables = {
        "PYTHONPATH": f"{HERE}{os.pathsep}{ROOT}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "GUESTS_REPORT": str(report),
        "GUESTS_SHARE": share,
    }
    environment = {k: v for k, v in os.environ.items() if not k.startswith("POSTLUDE_")} | variables
    with report.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "-q", "--tb=short", "--show-capture=no", *left_out, *tests],
            cwd=theirs,
            env=environment,
            stdout=log,
            stderr=log,
        )
    return report, process


def result(report, process):
    """Return what a pytest has found; 0 and 1 are its codes for tests that have run."""
    code = process.wait()
    assert code in {0, 1}, report.with_suffix(".log").read_text()[-5000:]
    return json.loads(report.read_text())


def failed(verdicts):
    return [
        name
        for name, (outcome, _) in verdicts.items()
        if outcome == "failed" and name not in LISTED["not_judged"]
    ]


def test_whatever_is_not_listed_passes(verdicts):
    wrong = {name: verdicts[name][1] for name in failed(verdicts) if name not in FAILS}

    assert not wrong, f"with Dramatiq {dramatiq.__version__}: " + "\n\n".join(
        f"{name}\n{why}" for name, why in wrong.items()
    )


def test_whatever_is_listed_fails(verdicts):
    fails = set(failed(verdicts))

    passing = [name for name in FAILS if name not in fails]

    assert passing == [], "these pass, or are no more: take them off cannot_apply.toml"


def test_whatever_is_not_judged_is_run(verdicts):
    assert LISTED["not_judged"].keys() - verdicts.keys() == set()


def test_most_of_them_pass(verdicts):
    passed = [name for name, (outcome, _) in verdicts.items() if outcome == "passed"]

    assert len(passed) > len(FAILS)
    assert len(passed) >= 100
