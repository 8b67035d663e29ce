"""From a stored file to what is in it: the survey first, then whoever reads files of that type.

The libraries for images and PDF are loaded by those workers that meet one: they take 9 MB, and every
process imports the actors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from actors.files import prose, sniff, spreadsheet
from actors.files.reading import Lines, blocks, texts
from actors.files.survey import check_content, survey

if TYPE_CHECKING:
    from actors.files.records import FileRecord


@dataclass(slots=True)
class Content:
    """What was found: filled in step by step, so that a fault still tells the type."""

    type: str = sniff.UNKNOWN
    profile: dict[str, Any] | None = None
    thumbnail: bytes | None = None


def examine(file: BinaryIO, record: FileRecord, content: Content) -> None:
    """Find out what ``file`` is and what is in it; raise UnusableFile if it cannot be used."""
    found = survey(blocks(file, step="checking", size=record.size))
    check_content(found, size=record.size, digest=record.sha256)
    content.type = sniff.media_type(
        found.head, name=record.name, is_text=found.encoding is not None
    )
    sniff.check_name(record.name, content.type)
    content.profile = {"type": content.type, **_read(file, record.size, found.encoding, content)}


def _read(file: BinaryIO, size: int, encoding: str | None, content: Content) -> dict[str, Any]:
    if content.type in sniff.IMAGES:
        from actors.files import image  # noqa: PLC0415 - see the top of this file

        picture = image.read(file, format_name=sniff.IMAGES[content.type])
        content.thumbnail = picture.thumbnail
        return picture.profile
    if content.type == sniff.PDF:
        from actors.files import pdf  # noqa: PLC0415 - see the top of this file

        return pdf.profile(file, size)
    if encoding is None:
        return {}
    decoded = texts(blocks(file, step="reading", size=size), encoding)
    if content.type == sniff.CSV:
        return spreadsheet.profile(Lines(decoded), encoding)
    return prose.profile(decoded, encoding)
