"""The first look at a file, in one pass: whether it is what was uploaded, and whether it is text."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from actors.files.errors import UnusableFile
from actors.files.sniff import HEAD

if TYPE_CHECKING:
    from collections.abc import Iterator

_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
_FEW = bytes([*range(9), 11, *range(14, 27), *range(28, 32), 127])
"""Control characters that no text has: neither tab, line break, form feed nor escape."""
_NOT_WINDOWS = b"\x81\x8d\x8f\x90\x9d"


@dataclass(frozen=True, slots=True)
class Survey:
    """What a pass over the whole file says. ``encoding`` is None where it is no text."""

    head: bytes
    size: int
    sha256: str
    encoding: str | None


def survey(found: Iterator[bytes]) -> Survey:
    """Read all of ``found``. What is not UTF-8 but could be Windows-1252 is taken for that."""
    head, size, digest = b"", 0, sha256()
    candidates: list[_Candidate] = []
    for block in found:
        if not size:
            head = block[:HEAD]
            candidates = _candidates(block)
        size += len(block)
        digest.update(block)
        candidates = [candidate for candidate in candidates if candidate.takes(block)]
    fitting = [candidate.encoding for candidate in candidates if candidate.takes(b"", final=True)]
    return Survey(head, size, digest.hexdigest(), fitting[0] if fitting else None)


def check_content(found: Survey, *, size: int, digest: str) -> None:
    """Raise UnusableFile if what was read is not what was uploaded."""
    if (found.size, found.sha256) != (size, digest):
        message = (
            f"the storage has {found.size} bytes with SHA-256 {found.sha256}, but {size} bytes with "
            f"{digest} were uploaded: it was damaged or changed there; upload the file again"
        )
        raise UnusableFile(message)


class _Candidate:
    """An encoding that everything so far could be in."""

    def __init__(self, encoding: str) -> None:
        self.encoding = encoding
        self._decoder = codecs.getincrementaldecoder(encoding)("strict")
        self._barred = b""
        if encoding != "utf-16":
            self._barred = _FEW + (_NOT_WINDOWS if encoding == "cp1252" else b"")

    def takes(self, block: bytes, *, final: bool = False) -> bool:
        """Say whether ``block`` could come next."""
        if len(block.translate(None, self._barred)) != len(block):
            return False
        try:
            text = self._decoder.decode(block, final)
        except UnicodeDecodeError:
            return False
        return "\0" not in text


def _candidates(block: bytes) -> list[_Candidate]:
    for mark, encoding in _MARKS:
        if block.startswith(mark):
            return [_Candidate(encoding)]
    return [_Candidate("utf-8"), _Candidate("cp1252")]
