"""Which way mail goes: through the server that POSTLUDE_MAIL_URL names, or into a maildir."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from actors.mail import address, server
from actors.mail.maildir import Maildir
from actors.mail.smtp import Smtp

if TYPE_CHECKING:
    from actors.mail.message import Mail
    from postlude.settings import Settings


class Transport(Protocol):
    """Something that takes a mail and answers for it."""

    def deliver(self, mail: Mail) -> None:
        """Return when the mail is safe; raise MailRefused (for good) or MailDeferred (for now).

        May run twice with the same mail, also in two workers at once, and then it is still one mail
        or can be told to be the same one.
        """


def transport(settings: Settings) -> Transport:
    """Return the transport that ``settings`` ask for; raise SettingsError if they make no sense."""
    url = settings.mail_url.get_secret_value()
    return Smtp(server.parse(url)) if url else Maildir(settings.data_dir / "mail")


def check(settings: Settings) -> None:
    """Raise SettingsError, naming the variable, if mail could never be sent with ``settings``."""
    transport(settings)
    address.sender(settings.mail_from)
