"""Mail through a real server: one connection a mail, done when the server says that it took it."""

from __future__ import annotations

import smtplib
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from actors.mail.errors import MailDeferred, MailError, MailRefused
from actors.mail.server import Security

if TYPE_CHECKING:
    from email.headerregistry import Address

    from actors.mail.message import Mail
    from actors.mail.server import Server

log = structlog.get_logger()

_GOODBYE_S = 5
_PERMANENT = range(500, 600)


@dataclass(frozen=True, slots=True)
class Smtp:
    """Hands mail to ``server``."""

    server: Server

    def deliver(self, mail: Mail) -> None:
        """Hand ``mail`` in; when this returns, the server has promised to deliver it.

        Raises MailRefused where the server answers 5xx (or cannot take a non-ASCII address), and
        MailDeferred for 4xx, a lost connection, a timeout, a certificate that is not trusted.

        May run twice: yes. A connection that breaks between the last byte of the mail and the reply
        leaves open whether the server took it, so the mail is sent again, with the same Message-ID.
        """
        try:
            with closing(self._connect(mail)) as session:
                _hand_in(session, mail)
                _say_goodbye(session)
        except smtplib.SMTPRecipientsRefused as error:
            code, reply = next(iter(error.recipients.values()))
            raise self._verdict(code, reply) from error
        except smtplib.SMTPResponseException as error:
            raise self._verdict(error.smtp_code, error.smtp_error) from error
        except OSError as error:  # SMTPException is one, and so is what TLS and sockets raise.
            raise self._verdict(0, str(error) or type(error).__name__) from error
        log.info("mail.delivered", task_id=mail.key, transport="smtp", server=self.server.host)

    def _connect(self, mail: Mail) -> smtplib.SMTP:
        """Return a session that is as safe as the URL asks for, logged in if it has a password."""
        server, seconds = self.server, self.server.timeout.total_seconds()
        # The sender's domain: the resolver may take seconds to find this machine's own name.
        name = mail.sender.domain
        if server.security is Security.TLS:
            session: smtplib.SMTP = smtplib.SMTP_SSL(
                server.host, server.port, name, timeout=seconds, context=server.tls()
            )
        else:
            session = smtplib.SMTP(server.host, server.port, name, timeout=seconds)
        try:
            if server.security is Security.STARTTLS:
                session.starttls(context=server.tls())
            if server.password:
                session.login(server.username, server.password)
        except BaseException:
            session.close()
            raise
        return session

    def _verdict(self, code: int, reply: bytes | str) -> MailError:
        words = reply.decode("utf-8", "replace") if isinstance(reply, bytes) else reply
        where = f"mail server {self.server.host}:{self.server.port}"
        if code in _PERMANENT:
            return MailRefused(f"{where} refused the mail for good: {code} {words}")
        said = f"{code} {words}" if code > 0 else words
        return MailDeferred(f"{where} did not take the mail now, it is tried again later: {said}")


def _hand_in(session: smtplib.SMTP, mail: Mail) -> None:
    session.ehlo_or_helo_if_needed()
    options: tuple[str, ...] = ()
    if mail.needs_utf8:
        if not session.has_extn("smtputf8"):
            message = (
                "the mail server cannot take an address that is not ASCII before the '@' (it has no"
                " SMTPUTF8); use another address or another server"
            )
            raise MailRefused(message)
        options = ("SMTPUTF8", "BODY=8BITMIME")
    sender, recipient = _path(mail.sender), _path(mail.recipient)
    session.sendmail(sender, [recipient], mail.as_bytes(linesep="\r\n"), options)


def _path(address: Address) -> str:
    return f"{address.username}@{address.domain}"


def _say_goodbye(session: smtplib.SMTP) -> None:
    """End politely. The mail is in: whatever goes wrong now must not make it look undelivered."""
    with suppress(OSError):
        if session.sock:
            session.sock.settimeout(_GOODBYE_S)
        session.quit()
