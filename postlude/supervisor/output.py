"""One stream of lines from many processes: each whole, each with its role before it."""

from __future__ import annotations

import io
from typing import BinaryIO, TextIO, cast

_LONGEST = 64 * 1024
_COLOURS = (36, 33, 35, 32, 34, 31)


class Lines:
    """Cuts a stream of bytes into lines; what is not UTF-8 is shown as escapes."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[str]:
        """Return the lines that ``data`` completes; a line over 64 KiB is cut there."""
        *whole, self._rest = (self._rest + data).split(b"\n")
        while len(self._rest) > _LONGEST:
            whole.append(self._rest[:_LONGEST])
            self._rest = self._rest[_LONGEST:]
        return [_text(line) for line in whole]

    def end(self) -> list[str]:
        """Return what is left when the stream has ended without a newline."""
        rest, self._rest = self._rest, b""
        return [_text(rest)] if rest else []


class Output:
    """Writes lines under their role's name; used by one thread.

    ``bare``: without the names, for lines that are JSON and say themselves who they are. When
    nobody reads any more, ``broken`` becomes true and lines are dropped.
    """

    def __init__(
        self, stream: BinaryIO, names: list[str], *, colours: bool = False, bare: bool = False
    ) -> None:
        self._stream = stream
        self.broken = False
        self.colours = colours
        width = max(map(len, names))
        self._prefixes = {
            name: "" if bare else _prefix(name.ljust(width), number if colours else None)
            for number, name in enumerate(names)
        }

    def write(self, name: str, lines: list[str]) -> None:
        """Write ``lines`` of the role ``name``."""
        prefix = self._prefixes[name]
        self._put("".join(f"{prefix}{line}\n" for line in lines))

    def show(self, lines: list[str]) -> None:
        """Write ``lines`` without a name, so that they can be copied."""
        self._put("".join(f"{line}\n" for line in lines))

    def stream(self, name: str) -> TextIO:
        """Return a text stream whose lines appear under ``name``, for a logging handler."""
        return cast("TextIO", _Stream(self, name))

    def _put(self, text: str) -> None:
        if not text or self.broken:
            return
        try:
            self._stream.write(text.encode("utf-8", "backslashreplace"))
            self._stream.flush()
        except BrokenPipeError:
            self.broken = True


class _Stream(io.TextIOBase):
    def __init__(self, output: Output, name: str) -> None:
        self._output = output
        self._name = name

    def isatty(self) -> bool:
        return self._output.colours

    def write(self, text: str) -> int:
        self._output.write(self._name, text.removesuffix("\n").split("\n"))
        return len(text)


def _text(line: bytes) -> str:
    return line.removesuffix(b"\r").decode("utf-8", "backslashreplace")


def _prefix(name: str, number: int | None) -> str:
    if number is None:
        return f"{name} | "
    return f"\x1b[{_COLOURS[number % len(_COLOURS)]}m{name} |\x1b[0m "
