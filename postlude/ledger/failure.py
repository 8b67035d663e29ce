"""What an attempt raised, as text that can be stored, and a fingerprint that its like share."""

from __future__ import annotations

import hashlib
import re
import traceback
from dataclasses import dataclass
from pathlib import PurePath

FRAMES = 30
"""Frames of a traceback that are kept, from where the actor was called."""
TEXT_LIMIT = 16_000
"""Characters of a text that are kept; of a traceback the last ones, its end says most."""
_FINGERPRINT_FRAMES = 12
_FRAME = re.compile(r'File "([^"]+)", line \d+,? in (\S+)')


@dataclass(frozen=True, slots=True)
class Failure:
    """What an attempt raised, as text; failures of one kind share a fingerprint."""

    type: str
    message: str
    traceback: str
    fingerprint: str | None = None


def failure_of(error: BaseException, *, elsewhere: str | None = None) -> Failure:
    """Return ``error`` as text. Never raises, whatever the exception's own code does.

    ``elsewhere`` is its traceback where it was raised, if that was in another process.
    """
    lines = traceback.format_exception(type(error), error, error.__traceback__, limit=FRAMES)
    return Failure(
        type=printable(type(error).__qualname__),
        message=printable(words_of(error))[:TEXT_LIMIT],
        traceback=printable(elsewhere or "".join(lines))[-TEXT_LIMIT:],
        fingerprint=fingerprint(error, elsewhere=elsewhere),
    )


def fingerprint(error: BaseException, *, elsewhere: str | None = None) -> str:
    """Return what failures of one kind have in common: the type, and the functions it came through.

    Line numbers and messages are left out: an edit elsewhere in the file, or another id in the
    words, makes no other failure of it.
    """
    frames = traceback.extract_tb(error.__traceback__)[-_FINGERPRINT_FRAMES:]
    places = [f"{PurePath(frame.filename).name}:{frame.name}" for frame in frames]
    if elsewhere is not None:
        found = _FRAME.findall(elsewhere)[-_FINGERPRINT_FRAMES:]
        places = [f"{PurePath(file).name}:{name}" for file, name in found]
    kind = f"{type(error).__module__}.{type(error).__qualname__}"
    return hashlib.sha256("\n".join([kind, *places]).encode(errors="replace")).hexdigest()[:16]


def printable(text: str) -> str:
    """Make any text storable: databases refuse NUL, UTF-8 refuses lone surrogates."""
    return text.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode()


def words_of(error: BaseException) -> str:
    """Return what an exception says; its own code may be what is broken."""
    try:
        return str(error)
    except Exception as worse:  # noqa: BLE001 - somebody's __str__; the attempt's record must not fail
        return f"<{type(error).__name__} whose text cannot be had: {type(worse).__name__}>"
