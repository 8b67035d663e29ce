"""What a file is, by its content, and whether its name says the same.

A small table of signatures: of the libraries for this, those that know more types also guess, and
take every archive for a text document.
"""

from __future__ import annotations

from actors.files.errors import UnusableFile
from actors.files.name import extension

HEAD = 512
"""How many bytes of a file are enough for this."""
UNKNOWN = "application/octet-stream"
TEXT = "text/plain"
CSV = "text/csv"
PDF = "application/pdf"
IMAGES = {
    "image/png": "PNG",
    "image/jpeg": "JPEG",
    "image/gif": "GIF",
    "image/webp": "WEBP",
    "image/bmp": "BMP",
    "image/tiff": "TIFF",
}
"""Media types of images, with Pillow's names for the formats."""

_SIGNATURES = (
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"GIF87a", "image/gif"),
    (0, b"GIF89a", "image/gif"),
    (8, b"WEBPVP8", "image/webp"),
    (0, b"II*\0", "image/tiff"),
    (0, b"MM\0*", "image/tiff"),
    (0, b"%PDF-", PDF),
    (0, b"\xef\xbb\xbf%PDF-", PDF),
    (0, b"PK\x03\x04", "application/zip"),
    (0, b"\x1f\x8b\x08", "application/gzip"),
    (0, b"BZh", "application/x-bzip2"),
    (0, b"\xfd7zXZ\0", "application/x-xz"),
    (0, b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (0, b"\x7fELF", "application/x-executable"),
    (0, b"SQLite format 3\0", "application/vnd.sqlite3"),
    (4, b"ftyp", "video/mp4"),
    (0, b"OggS\0", "application/ogg"),
    (0, b"ID3", "audio/mpeg"),
    (8, b"WAVEfmt ", "audio/wav"),
)
# Two letters begin many a text, too.
_IF_BINARY = ((0, b"BM", "image/bmp"), (0, b"MZ", "application/x-msdownload"))
_TEXTS = {TEXT, CSV}
_PROMISES = {
    "png": {"image/png"},
    "jpg": {"image/jpeg"},
    "jpeg": {"image/jpeg"},
    "gif": {"image/gif"},
    "webp": {"image/webp"},
    "bmp": {"image/bmp"},
    "tif": {"image/tiff"},
    "tiff": {"image/tiff"},
    "pdf": {PDF},
    "csv": {CSV},
    "tsv": {CSV},
    "txt": _TEXTS,
    "zip": {"application/zip"},
    "gz": {"application/gzip"},
}
_TABLES = frozenset({"csv", "tsv"})


def media_type(head: bytes, *, name: str, is_text: bool) -> str:
    """Return the media type of what begins with ``head``.

    Text is a table only if its name says so: any text with a comma in it could be one.
    """
    signatures = _SIGNATURES if is_text else _SIGNATURES + _IF_BINARY
    for offset, signature, found in signatures:
        if head.startswith(signature, offset):
            return found
    if not is_text:
        return UNKNOWN
    return CSV if extension(name) in _TABLES else TEXT


def check_name(name: str, found: str) -> None:
    """Raise UnusableFile if ``name`` promises something else than the type that was ``found``."""
    ending = extension(name)
    promised = _PROMISES.get(ending)
    if promised and found not in promised:
        message = (
            f"{name!r} is not what its name says: .{ending} stands for {' or '.join(sorted(promised))}, "
            f"its content is {found}; rename it, or send the right file"
        )
        raise UnusableFile(message)
