"""Keys: what a file, and the thumbnail beside it, are stored under."""

from __future__ import annotations

import re

THUMBNAIL = ".thumbnail.jpg"
"""Behind a file's id: the key of its thumbnail."""
_ID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
KEY = re.compile(rf"({_ID})(?:{re.escape(THUMBNAIL)})?")
"""Its first group is the file's id."""


def checked(key: str) -> str:
    """Return ``key``, which is an id or a thumbnail's; ValueError if it is anything else."""
    if not KEY.fullmatch(key):
        message = f"{key!r} is no key of a file; a key is the id that POST /files gave"
        raise ValueError(message)
    return key


def of_file(file_id: str) -> tuple[str, str]:
    """Return the keys of everything that is stored of one file."""
    return checked(file_id), checked(file_id + THUMBNAIL)
