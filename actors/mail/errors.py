"""What can go wrong with a mail, sorted by what matters: whether trying again would help."""

from __future__ import annotations


class MailError(Exception):
    """Base of both answers; its text says what failed, where, and what to do about it."""


class MailRefused(MailError):
    """Permanent: the same mail would be refused again, so the task fails at once."""


class BadMail(MailRefused, ValueError):
    """The mail cannot be written at all: an address, a subject or an attachment makes no sense.

    A ``ValueError`` too, so that pydantic reports it as a fault of the argument.
    """


class MailDeferred(MailError):
    """Temporary: the server, the network or the disk was not ready, so the task is tried again."""
