"""The mail server that POSTLUDE_MAIL_URL names.

What is encrypted is decided by the URL, never by what the server announces: whoever sits between
could take the announcement away.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import parse_qsl, unquote, urlsplit

from postlude.durations import parse_duration
from postlude.errors import SettingsError

if TYPE_CHECKING:
    from urllib.parse import SplitResult

_FORM = (
    "write smtp://, smtps:// or smtp+starttls://user:password@host:port?timeout=60s&ca=/path.pem"
)
_TIMEOUT = timedelta(seconds=60)


class Security(StrEnum):
    """How the connection is protected; named for the URL scheme that asks for it."""

    NONE = "smtp"
    """Plain text. With a password and a host that is not this machine it becomes STARTTLS."""
    STARTTLS = "smtp+starttls"
    """Plain at first, then TLS before anything that matters; a server without it gets nothing."""
    TLS = "smtps"
    """TLS from the first byte."""


_PORTS = {Security.NONE: 25, Security.STARTTLS: 587, Security.TLS: 465}


@dataclass(frozen=True, slots=True)
class Server:
    """Where to hand mail in, and how. ``timeout`` bounds the connect and each wait for a reply."""

    host: str
    port: int
    security: Security
    username: str = ""
    password: str = field(default="", repr=False)
    timeout: timedelta = _TIMEOUT
    ca: Path | None = None
    """Trust the authorities in this file rather than those of the system."""

    def tls(self) -> ssl.SSLContext:
        """Return a context that demands a valid certificate for ``host``. Raises OSError."""
        return ssl.create_default_context(cafile=self.ca)


def parse(url: str) -> Server:
    """Return the server that POSTLUDE_MAIL_URL names; user and password are percent-encoded in it.

    Raises SettingsError, naming the variable. No part of the URL is repeated there: where it was
    split in the wrong place, that could be the password.
    """
    scheme = url.partition("://")[0].strip().lower()
    if scheme not in set(Security):
        _reject("the scheme is unknown")
    try:
        parts = urlsplit(url.strip())
        host, port = _host_and_port(parts)
    except ValueError:
        _reject("host or port make no sense, or the password needs percent-encoding")
    if parts.path not in {"", "/"} or parts.fragment:
        _reject("something follows the port; '/', '?' and '#' in a password are %2F, %3F, %23")
    security = Security(scheme)
    port = _PORTS[security] if port is None else port
    username, password = _credentials(parts)
    if password and security is Security.NONE and not _is_this_machine(host):
        security = Security.STARTTLS
    timeout, ca = _options(parts.query)
    return Server(host, port, security, username, password, timeout, ca)


def _host_and_port(parts: SplitResult) -> tuple[str, int | None]:
    """Return both, the host in ASCII; raise ValueError if either makes no sense."""
    host, port = parts.hostname or "", parts.port
    if not host.isascii():
        host = host.encode("idna").decode("ascii")
    if not host or port == 0 or any(character.isspace() for character in host):
        raise ValueError
    return host, port


def _credentials(parts: SplitResult) -> tuple[str, str]:
    username, password = unquote(parts.username or ""), unquote(parts.password or "")
    if bool(username) != bool(password):
        _reject("it has a user without a password, or the other way round")
    # The standard library's smtplib can send no others.
    if not (username + password).isascii():
        _reject("user and password must be ASCII")
    return username, password


def _options(query: str) -> tuple[timedelta, Path | None]:
    try:
        options = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)))
        timeout = parse_duration(options.pop("timeout", _TIMEOUT))
    except ValueError:
        _reject("its options make no sense; timeout is a duration such as '60s'")
    ca = Path(options.pop("ca")).expanduser() if "ca" in options else None
    if options:
        _reject("it has an unknown option; known: timeout, ca")
    if not timeout:
        _reject("timeout must be longer than 0")
    if ca and not ca.is_file():
        _reject("ca names no file")
    return timeout, ca


def _is_this_machine(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _reject(what: str) -> NoReturn:
    message = f"POSTLUDE_MAIL_URL: {what}; {_FORM}, or leave it unset for a maildir"
    # Without its cause: what urlsplit says about a port may be the end of a password.
    raise SettingsError(message) from None
