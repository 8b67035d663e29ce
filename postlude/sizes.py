"""Sizes of memory as people write them: "512MiB", "1.5GiB", "200MB"; a bare number counts bytes."""

from __future__ import annotations

import re

_UNITS = {
    "": 1,
    "B": 1,
    "KB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "KIB": 1024,
    "MIB": 1024**2,
    "GIB": 1024**3,
}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([KMG]?I?B)?", re.IGNORECASE)
_LARGEST = 2**62


def parse_size(text: str | int) -> int:
    """Return the number of bytes that ``text`` names; ValueError for anything else, and for 0."""
    if isinstance(text, bool) or not isinstance(text, str | int):
        message = f"{text!r} is not a size; write 512 * 1024**2, '512MiB' or '1.5GiB'"
        raise ValueError(message)  # noqa: TRY004 - one error for whatever is no size
    found = _SIZE.fullmatch(str(text).strip())
    unit = (found[2] or "").upper() if found else None
    if found is None or unit not in _UNITS:
        message = f"{text!r} is not a size; write 512 * 1024**2, '512MiB' or '1.5GiB'"
        raise ValueError(message)
    size = int(float(found[1]) * _UNITS[unit])
    if not 0 < size <= _LARGEST:
        message = f"{text!r} is out of range; a size is at least one byte"
        raise ValueError(message)
    return size


def format_size(size: int) -> str:
    """Write ``size`` for people, in whole mebibytes rounded up."""
    return f"{-(-size // 1024**2)} MiB"
