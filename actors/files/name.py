"""The name of a file as it is shown to people. Nothing is ever opened or stored under it."""

from __future__ import annotations

import re
import unicodedata

LONGEST = 200
_SEPARATORS = re.compile(r"[/\\]")
_UNPRINTABLE = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})
_LONGEST_EXTENSION = 16


def shown(raw: str) -> str:
    """Return the last part of ``raw``, without what could deceive or break a line.

    No separators, control characters or changes of direction; at most ``LONGEST`` characters, of
    which the extension is kept; "unnamed" if nothing is left.
    """
    last = _SEPARATORS.split(unicodedata.normalize("NFC", raw))[-1]
    clean = "".join(c for c in last if unicodedata.category(c) not in _UNPRINTABLE).strip()
    if not clean.strip("."):
        return "unnamed"
    if len(clean) <= LONGEST:
        return clean
    stem, dot, ending = clean.rpartition(".")
    if not stem or len(ending) > _LONGEST_EXTENSION:
        return clean[:LONGEST]
    return stem[: LONGEST - len(dot + ending)] + dot + ending


def extension(name: str) -> str:
    """Return what is behind the last dot, in lower case; "" if there is none."""
    stem, _, ending = name.rpartition(".")
    return ending.lower() if stem else ""
