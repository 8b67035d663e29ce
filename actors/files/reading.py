"""Reading a file in blocks, as bytes or as text, while its task shows how far it is.

No block, line or record is ever larger than its limit, whatever is in the file.
"""

from __future__ import annotations

import codecs
import io
from typing import TYPE_CHECKING, BinaryIO

from actors.files.errors import UnusableFile
from postlude import set_progress

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK = 1024 * 1024
LONGEST_LINE = 1024 * 1024
"""In characters; also the most that one record may have that spans lines."""


def blocks(file: BinaryIO, *, step: str, size: int) -> Iterator[bytes]:
    """Return ``file`` from its beginning, in blocks, reporting progress as ``step``."""
    file.seek(0)
    done = 0
    while block := file.read(BLOCK):
        set_progress({"step": step, "done": done, "of": size})
        yield block
        done += len(block)
    set_progress({"step": step, "done": done, "of": size})


def texts(found: Iterator[bytes], encoding: str) -> Iterator[str]:
    """Decode blocks that are known to be in ``encoding``; every kind of line break becomes LF."""
    strict = codecs.getincrementaldecoder(encoding)("strict")
    decoder = io.IncrementalNewlineDecoder(strict, translate=True)
    for block in found:
        yield decoder.decode(block)
    yield decoder.decode(b"", final=True)


class Lines:
    """The lines of a text, each with its LF.

    Whoever puts lines together to a record calls :meth:`begin_record` after each. A line or record
    over the limit raises UnusableFile.
    """

    def __init__(self, found: Iterator[str]) -> None:
        self._texts = found
        self._left = LONGEST_LINE
        self.number = 0

    def begin_record(self) -> None:
        """Say that the lines so far belong to records that are complete."""
        self._left = LONGEST_LINE

    def __iter__(self) -> Iterator[str]:
        rest = ""
        for text in self._texts:
            *whole, rest = (rest + text).split("\n")
            for line in whole:
                yield self._counted(line + "\n")
            if len(rest) > LONGEST_LINE:
                raise self._too_long()
        if rest:
            yield self._counted(rest)

    def _counted(self, line: str) -> str:
        self.number += 1
        self._left -= len(line)
        if self._left < 0:
            raise self._too_long()
        return line

    def _too_long(self) -> UnusableFile:
        message = (
            f"near line {self.number}: a line or quoted field goes on for more than {LONGEST_LINE} "
            "characters; is a closing quote missing?"
        )
        return UnusableFile(message)
