"""Text: how many lines and words it has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


def profile(found: Iterator[str], encoding: str) -> dict[str, Any]:
    """Count the lines and words of a text that comes in pieces.

    A last line without a line break counts; a word is what stands between blanks.
    """
    lines = words = characters = 0
    last = "\n"
    for text in found:
        if not text:
            continue
        lines += text.count("\n")
        characters += len(text)
        words += len(text.split()) - (not last.isspace() and not text[0].isspace())
        last = text[-1]
    lines += last != "\n"
    return {"encoding": encoding, "lines": lines, "words": words, "characters": characters}
