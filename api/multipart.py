"""A multipart body with one file in it, read as it arrives; nothing is kept but what is in hand."""

from __future__ import annotations

from typing import NoReturn

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from api.problems import Code, HttpProblem

FIELD = "file"
_LONGEST_BOUNDARY = 70  # RFC 2046
_PLAIN = frozenset({b"", b"binary", b"8bit", b"7bit"})


class FileForm:
    """The parts of a body, of which one must be a file and called ``file``, and no other may be.

    Every method raises HttpProblem: 415 for another media type, 400 for a body that is broken, 422
    for parts that are not what is expected. ``name`` is what the client calls the file: hostile
    until it is made harmless.
    """

    def __init__(self, content_type: str) -> None:
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary", b"")
        if kind != b"multipart/form-data":
            detail = f"Send the file as multipart/form-data, in a part with the name {FIELD!r}."
            raise HttpProblem(Code.UNSUPPORTED_MEDIA_TYPE, detail)
        if not 0 < len(boundary) <= _LONGEST_BOUNDARY:
            _refuse_body(f"its boundary must have 1 to {_LONGEST_BOUNDARY} characters")
        self.name: str | None = None
        self._headers: dict[bytes, bytes] = {}
        self._field = self._value = b""
        self._content: list[bytes] = []
        self._complete = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._on_field,
                "on_header_value": self._on_value,
                "on_header_end": self._on_header,
                "on_headers_finished": self._on_headers,
                "on_part_data": self._on_data,
                "on_end": self._end,
            },
        )

    def feed(self, chunk: bytes) -> list[bytes]:
        """Read on; return what ``chunk`` has of the file's content."""
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            _refuse_body(str(error))
        content, self._content = self._content, []
        return content

    def finish(self) -> str:
        """Say that the body is over; return the file's name as the client has it."""
        if not self._complete:
            _refuse_body("it ends before its closing boundary")
        if self.name is None:
            _refuse_part(f"a file is missing: a part with the name {FIELD!r} and a filename")
        return self.name

    def _begin(self) -> None:
        self._headers = {}

    def _on_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header(self) -> None:
        self._headers[self._field.lower()] = self._value
        self._field = self._value = b""

    def _on_headers(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        field = options.get(b"name", b"").decode("utf-8", "replace")
        if field != FIELD:
            _refuse_part(f"the part {field[:100]!r} is not expected; only {FIELD!r} is")
        if b"filename" not in options:
            _refuse_part(f"the part {FIELD!r} is a text, not a file: it has no filename")
        if self.name is not None:
            _refuse_part("there are several files; send each in a request of its own")
        if self._headers.get(b"content-transfer-encoding", b"").strip().lower() not in _PLAIN:
            _refuse_part("the file is encoded for mail; send its bytes as they are")
        self.name = options[b"filename"].decode("utf-8", "replace")

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        self._content.append(data[start:end])

    def _end(self) -> None:
        self._complete = True


def _refuse_body(reason: str) -> NoReturn:
    detail = f"The body is not multipart/form-data: {reason}."
    raise HttpProblem(Code.BAD_REQUEST, detail, headers={"connection": "close"})


def _refuse_part(reason: str) -> NoReturn:
    fault = {"in": "body", "pointer": f"/{FIELD}", "detail": reason}
    detail = f"body /{FIELD}: {reason}"
    headers = {"connection": "close"}
    raise HttpProblem(Code.VALIDATION, detail, headers=headers, errors=[fault])
