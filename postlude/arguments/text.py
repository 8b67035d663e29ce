"""What JSON text has to satisfy before it is stored, checked on the encoded bytes.

The usual text passes with a few scans at memory speed; only a suspicious one is looked at closely.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import pydantic_core

from postlude.arguments.limits import DEPTH_LIMIT, DIGITS_LIMIT, TOO_LONG

# An escaped NUL is \u0000 after an even number of backslashes.
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
# The look-behind makes each run of digits be tried once, or hostile text would cost its square.
_LONG_NUMBER = re.compile(rb"(?<!\d)\d{%d}" % (DIGITS_LIMIT + 1))
_BRACKETS = bytes.maketrans(b"{}", b"[]")
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


class Flaw(NamedTuple):
    """Why a text must not be stored, and how to recognise the value that is to blame, if one is."""

    words: str
    guilty: Callable[[Any], bool] | None = None


def flaw_of(data: bytes, limit: int | None) -> Flaw | None:
    """Say why ``data``, JSON in UTF-8, must not be stored; None if it may; ``limit``: bytes."""
    size = len(data)
    if limit is not None and size > limit:
        excess = f"{size} bytes of JSON are over the limit of {limit}"
        return Flaw(f"{excess}; store the data elsewhere and pass its id")
    if b"\\u0000" in data and _NUL.search(data):
        return Flaw("the character NUL (U+0000) cannot be stored in a database", _has_nul)
    if data.count(b"[") + data.count(b"{") > DEPTH_LIMIT and _too_deep(data):
        return Flaw(f"lists and objects are nested more than {DEPTH_LIMIT} levels deep")
    if size > DIGITS_LIMIT and _LONG_NUMBER.search(data) and not _readable(data):
        return Flaw(
            f"a whole number of more than {DIGITS_LIMIT} digits cannot be read back", _too_long
        )
    return None


def outside_strings(data: bytes) -> bytes:
    """Return JSON text without its strings: punctuation, numbers and constants."""
    return _STRING.sub(b"", data)


def _too_deep(data: bytes) -> bool:
    brackets = outside_strings(data).translate(_BRACKETS, _NOT_BRACKETS)
    # Each round takes away exactly the innermost level.
    for _ in range(DEPTH_LIMIT):
        brackets = brackets.replace(b"[]", b"")
    return bool(brackets)


def _readable(data: bytes) -> bool:
    try:
        pydantic_core.from_json(data)
    except ValueError:
        return False  # the answer that was asked for
    return True


def _has_nul(value: Any) -> bool:
    return isinstance(value, str) and "\0" in value


def _too_long(value: Any) -> bool:
    return isinstance(value, int) and not -TOO_LONG < value < TOO_LONG
