"""``docs/compatibility.md`` names a test for each hole, and each test here is named there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
TABLE = (ROOT / "docs/compatibility.md").read_text(encoding="utf-8").partition("## Holes")[2]
ROWS = re.findall(r"(?m)^\| [^|]+: [^|]+ \| `([^`]+)` \| (the same|`[^`]+`) \|$", TABLE)


def functions_of(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_each_test_that_is_named_exists():
    named = [name.strip("`") for row in ROWS for name in row if name != "the same"]

    missing = [
        name
        for name in named
        if name.partition("::")[2] not in functions_of(ROOT / name.partition("::")[0])
    ]

    assert len(ROWS) == TABLE.count("\n| ") - 1, "a row of the table is not of its form"
    assert missing == []


def test_each_hole_is_in_the_table_once():
    files = [path for path in HERE.glob("test_*.py") if path.name != Path(__file__).name]
    shown = [
        f"{path.relative_to(ROOT)}::{name}"
        for path in files
        for name in functions_of(path)
        if name.startswith("test_")
    ]

    assert sorted(shown) == sorted(row[0] for row in ROWS)
