"""Images: their size, and a thumbnail. Nothing is decoded before its size is known to be harmless."""

from __future__ import annotations

import io
import struct
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from PIL import Image, ImageOps

from actors.files.errors import UnusableFile

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_PIXELS = 50_000_000
"""Decoded, that is 200 MB at worst."""
SIDE = 256
_QUALITY = 85
# Pillow's readers let through whatever their arithmetic raises on nonsense.
_MALFORMED = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    ArithmeticError,
    AttributeError,
    struct.error,
)
_BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)


@dataclass(frozen=True, slots=True)
class Picture:
    """What was found in an image, and a JPEG of at most ``SIDE`` by ``SIDE`` pixels."""

    profile: dict[str, Any]
    thumbnail: bytes


def read(file: BinaryIO, *, format_name: str) -> Picture:
    """Look at an image in the format that Pillow calls ``format_name``.

    Raises UnusableFile if it is damaged, or has too many pixels; those are not decoded.
    """
    file.seek(0)
    with _in_plain_words(), Image.open(file, formats=[format_name]) as image:
        width, height = image.size
        if width * height > MOST_PIXELS:
            message = f"the image has {width} x {height} pixels; at most {MOST_PIXELS} are decoded"
            raise UnusableFile(message)
        profile = {"width": width, "height": height, "mode": image.mode}
        return Picture(profile, _thumbnail(image))


def _thumbnail(image: Image.Image) -> bytes:
    """Return it small, upright, and on white where it was transparent."""
    image.thumbnail((SIDE, SIDE))
    upright = ImageOps.exif_transpose(image)
    if upright.mode not in {"RGB", "L"}:
        colours = upright.convert("RGBA")
        upright = Image.new("RGB", colours.size, "white")
        upright.paste(colours, mask=colours)
    written = io.BytesIO()
    upright.save(written, "JPEG", quality=_QUALITY)
    return written.getvalue()


@contextmanager
def _in_plain_words() -> Iterator[None]:
    """Tell what Pillow makes of malformed images, in whichever way it says so."""
    try:
        yield
    except _BOMBS as error:
        message = f"the image has too many pixels to be decoded: {error}"
        raise UnusableFile(message) from None
    except _MALFORMED as error:
        message = f"the image is damaged: {error}"
        raise UnusableFile(message) from None
