"""The subject of a mail, as a header that writes itself."""

from __future__ import annotations

from email.header import Header
from typing import TYPE_CHECKING, Self

from actors.mail.address import one_line

if TYPE_CHECKING:
    from email.policy import EmailPolicy

_ONE_LINE = 78 - len("Subject: ")


class Subject(str):
    """Text as EmailMessage takes a header: it asks for ``name`` and ``fold``.

    Left to itself, EmailMessage may lose spaces between words that are not ASCII (seen in Python
    3.11) and decodes what looks encoded. The library's older Header class does neither.
    """

    __slots__ = ()

    name = "Subject"

    def __new__(cls, text: str) -> Self:
        """Make one of ``text``; raise BadMail if it has a line break."""
        return super().__new__(cls, one_line(text).strip())

    def fold(self, *, policy: EmailPolicy) -> str:
        """Return the header, folded and in ASCII."""
        plain = self.isascii() and len(self) <= _ONE_LINE and "=?" not in self
        header = Header(str(self), "us-ascii" if plain else "utf-8", header_name=self.name)
        return f"{self.name}: {header.encode(linesep=policy.linesep)}{policy.linesep}"
