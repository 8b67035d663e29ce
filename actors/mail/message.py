"""The mail itself: from what an actor was asked to say to the text that goes over the wire."""

from __future__ import annotations

import re
from dataclasses import dataclass
from email import policy
from email.message import EmailMessage
from typing import TYPE_CHECKING
from urllib.parse import quote

from actors.mail.address import needs_utf8, recipient, sender
from actors.mail.errors import BadMail
from actors.mail.subject import Subject

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from email.headerregistry import Address

    from actors.mail.attachment import Attachment

# What SMTP carries as it is: printable ASCII in lines of at most 998 characters.
_PLAIN = re.compile(r"([\t -~]{0,998}(\r\n|[\r\n]))*[\t -~]{0,998}")


@dataclass(frozen=True, slots=True)
class Draft:
    """What somebody wants to say to whom, unchecked."""

    to: str
    text: str
    subject: str = "Notification"
    html: str | None = None
    attachments: Sequence[Attachment] = ()


@dataclass(frozen=True, slots=True)
class Mail:
    """A checked mail, ready for any transport. ``key`` names it: the same task, the same key."""

    key: str
    sender: Address
    recipient: Address
    content: EmailMessage

    @property
    def message_id(self) -> str:
        """The Message-ID header, angle brackets included."""
        return str(self.content["Message-ID"])

    @property
    def needs_utf8(self) -> bool:
        """Whether only servers with SMTPUTF8 can take it."""
        return needs_utf8(self.sender) or needs_utf8(self.recipient)

    def as_bytes(self, *, linesep: str) -> bytes:
        """Return the whole mail with ``linesep`` line ends: CRLF on the wire, LF in files."""
        return self.content.as_bytes(policy=self.content.policy.clone(linesep=linesep))


def compose(draft: Draft, *, task_id: str, mail_from: str, now: datetime) -> Mail:
    """Return the mail that task ``task_id`` is to send; raise BadMail if it cannot be written.

    The Message-ID is made of the task's id and the sender's host, so whoever receives a mail twice,
    because its task ran twice, can tell that it is the same one.
    """
    from_, to = sender(mail_from), recipient(draft.to)
    key = quote(task_id, safe="").replace(".", "%2E")
    utf8 = needs_utf8(from_) or needs_utf8(to)
    content = EmailMessage(policy=policy.SMTPUTF8 if utf8 else policy.SMTP)
    content["Date"] = now
    content["From"] = from_
    content["To"] = to
    content["Subject"] = Subject(draft.subject)
    content["Message-ID"] = f"<{key}@{from_.domain}>"
    # RFC 3834: keeps "out of office" replies away from the sender.
    content["Auto-Submitted"] = "auto-generated"
    _fill(content, draft)
    return Mail(key, from_, to, content)


def _encoding(text: str) -> str:
    # Never as base64, which would fix the line ends: a mail has others in a file than on the wire.
    return "7bit" if _PLAIN.fullmatch(text) else "quoted-printable"


def _fill(content: EmailMessage, draft: Draft) -> None:
    try:
        content.set_content(draft.text, cte=_encoding(draft.text))
        if draft.html is not None:
            content.add_alternative(draft.html, subtype="html", cte=_encoding(draft.html))
    except UnicodeEncodeError as error:
        message = (
            f"the text holds {error.object[error.start]!r}, half a character; send valid Unicode"
        )
        raise BadMail(message) from None
    for file in draft.attachments:
        maintype, _, subtype = file.type.partition("/")
        content.add_attachment(file.content, maintype=maintype, subtype=subtype, filename=file.name)
