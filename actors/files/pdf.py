"""PDF: how many pages it has. Only the tree of pages is read, no content."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, BinaryIO

from pypdf import PdfReader
from pypdf.errors import PyPdfError
from pypdf.generic import ArrayObject, DictionaryObject, IndirectObject

from actors.files.errors import UnusableFile

if TYPE_CHECKING:
    from pypdf.generic import PdfObject

LARGEST = 256 * 1024 * 1024
"""In bytes: to repair a damaged one, all of it is read."""
MOST_NODES = 200_000
_MALFORMED = (
    PyPdfError,
    OSError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    RecursionError,
)


def profile(file: BinaryIO, size: int) -> dict[str, Any]:
    """Count the pages; None where a password is needed to see them.

    Raises UnusableFile if it is damaged, or made to be larger inside than it looks.
    """
    if size > LARGEST:
        message = f"the PDF has {size} bytes; up to {LARGEST} are looked at"
        raise UnusableFile(message)
    file.seek(0)
    try:
        reader = PdfReader(file)
        if reader.is_encrypted and not reader.decrypt(""):
            return {"encrypted": True, "pages": None}
        return {"encrypted": reader.is_encrypted, "pages": _count(reader)}
    except _MALFORMED as error:
        message = f"the PDF is damaged, or made to do harm: {error}"
        raise UnusableFile(message) from None


def _count(reader: PdfReader) -> int:
    """Walk the tree of pages. A node that is met twice would make it endless, or explode."""
    seen: set[int] = set()
    left: list[PdfObject] = [_dictionary(reader.trailer["/Root"]).raw_get("/Pages")]
    pages = 0
    while left:
        node = left.pop()
        if isinstance(node, IndirectObject):
            if node.idnum in seen:
                message = "the PDF's tree of pages leads back into itself"
                raise UnusableFile(message)
            seen.add(node.idnum)
        found = _dictionary(node)
        kids = found.get("/Kids")
        if kids is None:
            pages += 1
        else:
            left.extend(_list(kids))
        if pages + len(left) > MOST_NODES:
            message = f"the PDF has more than {MOST_NODES} pages"
            raise UnusableFile(message)
    return pages


def _list(node: PdfObject) -> ArrayObject:
    found = node.get_object()
    if not isinstance(found, ArrayObject):
        message = f"the PDF is damaged: the children of a page are {type(found).__name__}, no list"
        raise UnusableFile(message)
    return found


def _dictionary(node: PdfObject) -> DictionaryObject:
    found = node.get_object()
    if not isinstance(found, DictionaryObject):
        message = f"the PDF is damaged: a page is {type(found).__name__}, no dictionary"
        raise UnusableFile(message)
    return found
