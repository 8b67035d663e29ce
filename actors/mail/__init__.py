"""Mail: ``send_notification``. Copy this file to begin an actor of your own.

An actor is a typed function under ``@dramatiq.actor``. Its arguments are checked when a task is
added; then it runs until it succeeds, fails for good or is cancelled. Its docstring says whether it
may run twice, because after a crash it will.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

import dramatiq
import uuid_utils
from dramatiq.middleware import CurrentMessage
from pydantic import EmailStr

from actors.mail.address import Line
from actors.mail.attachment import Attachment
from actors.mail.errors import MailRefused
from actors.mail.message import Draft, compose
from actors.mail.transport import transport
from postlude.settings import settings

SECOND = 1000  # Dramatiq counts milliseconds.
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE


@dramatiq.actor(
    throws=MailRefused,  # the server's "no" is final ...
    max_retries=30,  # ... its "not now", or its silence, is not: about a day
    min_backoff=10 * SECOND,
    max_backoff=1 * HOUR,
    time_limit=5 * MINUTE,
)
def send_notification(
    email: EmailStr,
    message: str,
    subject: Line = "Notification",
    html: str | None = None,
    attachments: Sequence[Attachment] = (),
) -> str:
    """Send ``message`` to ``email``, by SMTP or, with no POSTLUDE_MAIL_URL, into a maildir.

    May run twice: yes. The Message-ID is made of the task's id, which makes a second delivery
    recognisable; in the maildir the second run replaces the first. Returns that Message-ID.
    """
    mail = compose(
        Draft(email, message, subject, html, attachments),
        task_id=_task_id(),
        mail_from=settings().mail_from,
        now=datetime.now(UTC),
    )
    transport(settings()).deliver(mail)
    return mail.message_id


def _task_id() -> str:
    """Return the id of the running task, or a new one where the function is called directly."""
    current = CurrentMessage.get_current_message()
    return current.message_id if current else str(uuid_utils.uuid7())
