"""Rules that hold for the repository as a whole: sizes, names, imports, locks, documentation."""

from __future__ import annotations

import ast
import re
import statistics
import subprocess
import sys
import tomllib
from functools import reduce
from itertools import chain
from operator import getitem
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement

from postlude import errors
from postlude.cli.settings import document

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
PACKAGES = ("postlude", "actors", "api", "scheduler")
CODE = (*PACKAGES, "benchmarks")
LOCKS = ("requirements.lock", "requirements-test.lock", "requirements-bench.lock")


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def function_lengths(*folders: str) -> dict[str, int]:
    return {
        f"{named(path)}:{node.lineno} {node.name}": (node.end_lineno or node.lineno)
        - node.lineno
        + 1
        for path in sources(*folders)
        if path.parent.name != "versions"  # a migration is a list; splitting it hides its order
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


# Sizes and names


def test_no_file_is_longer_than_its_limit():
    limits = [(path, 400) for path in sources(*CODE)] + [(path, 600) for path in sources("tests")]

    long = [
        f"{named(path)}: {lines(path)} > {limit}" for path, limit in limits if lines(path) > limit
    ]

    assert long == []


def test_the_median_file_has_at_most_120_lines():
    assert statistics.median(lines(path) for path in sources(*CODE)) <= 120


def test_no_function_is_longer_than_sixty_lines():
    lengths = function_lengths(*CODE, "tests")

    assert [f"{name}: {length}" for name, length in lengths.items() if length > 60] == []


def test_nine_functions_of_ten_have_at_most_25_lines():
    lengths = sorted(function_lengths(*CODE).values())

    assert lengths[int(len(lengths) * 0.9)] <= 25


def test_no_module_is_named_for_being_useful():
    vague = {"utils", "util", "common", "helpers", "helper", "misc"}
    paths = [path for folder in (*CODE, "tests") for path in (ROOT / folder).rglob("*")]

    assert [named(path) for path in paths if path.stem in vague] == []


def test_every_folder_of_code_is_a_package():
    folders = {path.parent for path in sources(*CODE) if "migrations" not in path.parts}

    assert [named(folder) for folder in folders if not (folder / "__init__.py").exists()] == []


@pytest.mark.parametrize(
    "rule", re.findall(r"(?m)^[^\s#:=]+:(?!=).*\n(?:\t.*\n)+", (ROOT / "Makefile").read_text())
)
def test_a_make_target_has_at_most_five_lines(rule):
    assert rule.count("\n\t") <= 5


# Who may import and open what


def test_the_import_contracts_hold():
    linter = Path(sys.executable).parent / "lint-imports"

    done = subprocess.run(
        [linter, "--no-cache", "--no-logo"], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("package", ["postlude", "actors", "scheduler"])
def test_loading_it_does_not_load_fastapi(package):
    code = f"import sys, {package}; print(*{{'fastapi', 'starlette'}} & sys.modules.keys())"

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert done.stdout.split() == []


def test_loading_postlude_loads_no_database():
    code = (
        "import sys, postlude; print(*{'sqlalchemy', 'psycopg', 'pysqlite3'} & sys.modules.keys())"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert done.stdout.split() == []


def outside_the_ledger() -> list[Path]:
    return [path for path in sources(*PACKAGES) if "ledger" not in path.relative_to(ROOT).parts[:2]]


def imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def test_only_the_ledger_imports_an_sqlite_library():
    """Two SQLite libraries on one file in one process lose its locks (CORRECTNESS 7)."""
    guilty = [
        f"{named(path)}: {name}"
        for path in outside_the_ledger()
        for name in imported(parsed(path))
        if name.split(".")[0] in {"sqlite3", "pysqlite3", "apsw", "aiosqlite"}
    ]

    assert guilty == []


def code_strings(tree: ast.Module) -> Iterator[str]:
    """Yield the string constants of a module that are not docstrings."""
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield node.value


def test_nothing_outside_the_ledger_names_its_files():
    """Opening and closing one of them drops the locks of the whole process (CORRECTNESS 8)."""
    names = re.compile(r"postlude\.db|\.db-wal|\.db-shm|-journal$")

    guilty = [
        f"{named(path)}: {text!r}"
        for path in outside_the_ledger()
        if named(path) != "postlude/settings.py"
        for text in code_strings(parsed(path))
        if names.search(text)
    ]

    assert guilty == []


def test_the_ledger_opens_no_file_by_hand():
    """It leaves its files to SQLite (CORRECTNESS 8)."""
    ways = {
        "open",
        "fdopen",
        "read_text",
        "read_bytes",
        "write_text",
        "write_bytes",
        "touch",
        "copyfile",
    }

    guilty = [
        f"{named(path)}:{node.lineno}"
        for path in sources("postlude/ledger")
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Call)
        and getattr(node.func, "id", getattr(node.func, "attr", "")) in ways
    ]

    assert guilty == []


# Locks


def locked(name: str) -> dict[str, tuple[Requirement, str]]:
    """Read a lock file: name of the package -> (requirement, its options)."""
    text = "\n".join(
        line for line in (ROOT / name).read_text().splitlines() if not line.lstrip().startswith("#")
    )
    entries = [entry.split(" \\\n", 1) for entry in re.split(r"\n(?=\S)", text.strip())]
    read = [(Requirement(entry[0]), entry[1] if len(entry) > 1 else "") for entry in entries]
    return {requirement.name.lower(): (requirement, options) for requirement, options in read}


@pytest.mark.parametrize("lock", LOCKS)
def test_everything_in_a_lock_is_pinned_with_hashes(lock):
    for requirement, options in locked(lock).values():
        assert re.fullmatch(r"==[^*,]+", str(requirement.specifier)), requirement
        assert re.fullmatch(r"(\s*--hash=sha256:[0-9a-f]{64}\s*\\?\n?)+", options), requirement


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_no_index_and_no_place(lock):
    text = (ROOT / lock).read_text()

    assert re.findall(r"\S*(?:://|--index|--extra-index|--find-links|\s/|@ )\S*", text) == []


@pytest.mark.parametrize("lock", LOCKS[1:])
def test_the_other_locks_pin_what_the_main_lock_pins(lock):
    main, other = locked(LOCKS[0]), locked(lock)

    different = {
        name: str(other[name][0].specifier)
        for name, (requirement, _) in main.items()
        if name in other and other[name][0].specifier != requirement.specifier
    }

    # arq, one of the peers, wants an older redis than the cache does.
    assert different.keys() == ({"redis"} if "bench" in lock else set())


@pytest.mark.parametrize(
    ("lock", "table", "names"),
    [
        (LOCKS[0], ("project", "optional-dependencies"), ["redis", "s3"]),
        (LOCKS[1], ("dependency-groups",), ["test"]),
        (LOCKS[2], ("dependency-groups",), ["bench"]),
    ],
)
def test_a_lock_fits_what_the_project_asks_for(lock, table, names):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = reduce(getitem, table, project)
    pins = locked(lock)

    for text in chain(project["project"]["dependencies"], *(groups[name] for name in names)):
        wanted = Requirement(text)
        pinned = next(iter(pins[wanted.name.lower()][0].specifier)).version
        assert wanted.specifier.contains(pinned), f"{wanted} is pinned to {pinned}: run `make lock`"


def test_the_wheel_holds_postlude_alone():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())

    assert project["tool"]["hatch"]["build"]["targets"]["wheel"] == {"packages": ["postlude"]}


# Documentation


def test_every_setting_is_documented():
    written = (ROOT / "docs/settings.md").read_text(encoding="utf-8")

    assert written == document(), "run: postlude settings --markdown > docs/settings.md"


def all_errors(base: type[errors.PostludeError]) -> Iterator[type[errors.PostludeError]]:
    yield base
    for child in base.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from all_errors(child)


@pytest.mark.parametrize(
    "error", sorted(all_errors(errors.PostludeError), key=lambda error: error.code)
)
def test_every_error_code_is_documented_once(error):
    rows = re.findall(
        r"(?m)^\| `([a-z-]+)` \| (\S+) \| `(\w+)` \|", (ROOT / "docs/problems.md").read_text()
    )
    status = "none" if error is errors.SettingsError else str(error.status)

    assert [row for row in rows if row[0] == error.code] == [(error.code, status, error.__name__)]


def test_every_decision_is_listed():
    folder = ROOT / "docs/decisions"
    index = (folder / "README.md").read_text(encoding="utf-8")

    assert [page.name for page in folder.glob("0*.md") if f"({page.name})" not in index] == []
