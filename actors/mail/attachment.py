"""A file that goes along with a mail, as a typed argument: base64 in JSON, bytes in Python."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    WithJsonSchema,
)

from actors.mail.address import unencoded
from actors.mail.errors import BadMail

_LONGEST_NAME = 255
_MEDIA_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]*/[a-z0-9][a-z0-9!#$&^_.+-]*", re.IGNORECASE)
_CONTAINERS = ("multipart/", "message/")


def _file_name(text: str) -> str:
    name = unencoded(text).strip()
    if not name or len(name) > _LONGEST_NAME or "/" in name or "\\" in name:
        message = f"a file name is 1 to {_LONGEST_NAME} characters without a slash"
        raise BadMail(message)
    return name


def _media_type(text: str) -> str:
    if not _MEDIA_TYPE.fullmatch(text):
        message = "a media type reads like 'application/pdf', without parameters"
        raise BadMail(message)
    # These hold other parts, whose structure base64 would hide; mail programs do not expect it.
    if text.lower().startswith(_CONTAINERS):
        message = "multipart and message types cannot be attached; say 'application/octet-stream'"
        raise BadMail(message)
    return text


def _from_base64(content: bytes | str) -> bytes:
    if isinstance(content, bytes):
        return content
    try:
        return base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError, TypeError):
        message = "the content of an attachment is bytes; in JSON they are written in base64"
        raise BadMail(message) from None


def _to_base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


Content = Annotated[
    bytes,
    BeforeValidator(_from_base64),
    PlainSerializer(_to_base64, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "contentEncoding": "base64"}),
]


class Attachment(BaseModel):
    """A small file: it travels in the task's arguments, which ``POSTLUDE_ARGUMENT_LIMIT`` bounds.

    ``content`` is bytes, or base64 text as JSON has it. Of anything larger, mail a link.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, AfterValidator(_file_name)]
    content: Content
    type: Annotated[str, AfterValidator(_media_type)] = "application/octet-stream"
