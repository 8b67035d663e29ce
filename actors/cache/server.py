"""The Redis that POSTLUDE_CACHE_URL names. The URL is written as redis-py takes it, plus a prefix."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import parse_qsl, unquote, urlsplit

from postlude.errors import SettingsError

if TYPE_CHECKING:
    from urllib.parse import SplitResult

PREFIX = "postlude:cache:"
TIMEOUT_S = 2.0
"""For the connect and for each wait for a reply: a reader waits for this long, then gets a 503."""

_FORM = (
    "write redis://user:password@host:6379/0, rediss://… for TLS, or unix:///path/to.sock?db=0, "
    "each with ?prefix=name: if it is shared"
)
_SCHEMES = ("redis", "rediss", "unix")
_TIMEOUTS = ("socket_timeout", "socket_connect_timeout")
_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_MOST_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Server:
    """Where the cache is. ``options`` are redis-py's for one connection, passwords among them."""

    scheme: str
    name: str
    """Scheme, host, port and database: what may be shown."""
    prefix: str
    options: dict[str, Any] = field(repr=False)


def parse(url: str) -> Server:
    """Return the server that POSTLUDE_CACHE_URL names; user and password are percent-encoded in it.

    Raises SettingsError, naming the variable. No part of the URL is repeated there: where it was
    split in the wrong place, that could be the password.
    """
    scheme = url.partition("://")[0]
    if scheme not in _SCHEMES:
        _reject("the scheme is unknown")
    try:
        parts = urlsplit(url)
        where = _socket(parts) if scheme == "unix" else _address(parts)
        strict = bool(parts.query)
        query = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=strict))
    except ValueError:
        _reject("host, port or options make no sense, or the password needs percent-encoding")
    if parts.fragment or any(character.isspace() for character in url):
        _reject("'#', '/', '?' and spaces in a password are %23, %2F, %3F and %20")
    path = "" if scheme == "unix" else parts.path.removeprefix("/")
    database = _number(query.pop("db", path) or "0")
    prefix = _prefix(query.pop("prefix", PREFIX))
    options = where | {"db": database} | _credentials(parts, query) | _options(query, scheme)
    return Server(scheme, f"{scheme}://{_shown(where)}, database {database}", prefix, options)


def _address(parts: SplitResult) -> dict[str, Any]:
    """Return host and port; raise ValueError if either makes no sense."""
    port = 6379 if parts.port is None else parts.port
    host = unquote(parts.hostname or "")
    if not host or not port:
        raise ValueError
    host.encode("idna")  # as the resolver does, whose UnicodeError redis-py does not know
    return {"host": host, "port": port}


def _socket(parts: SplitResult) -> dict[str, Any]:
    path = unquote(parts.path)
    if parts.hostname or not path.startswith("/") or path == "/":
        _reject("a socket is named by an absolute path, with three slashes: unix:///run/redis.sock")
    return {"path": path}


def _shown(where: dict[str, Any]) -> str:
    if "path" in where:
        return str(where["path"])
    host = f"[{where['host']}]" if ":" in where["host"] else where["host"]
    return f"{host}:{where['port']}"


def _number(database: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", database):
        _reject("the database is not a number")
    return int(database)


def _prefix(prefix: str) -> str:
    if not re.fullmatch(r"[!-~]{1,100}", prefix):
        _reject("prefix must have 1 to 100 characters of ASCII, and no spaces")
    return prefix


def _credentials(parts: SplitResult, query: dict[str, str]) -> dict[str, Any]:
    username = unquote(parts.username or "") or query.pop("username", "")
    password = unquote(parts.password or "") or query.pop("password", "")
    if username and not password:
        _reject("it has a user without a password; a password alone is redis://:password@host")
    return {"username": username or None, "password": password or None}


def _options(query: dict[str, str], scheme: str) -> dict[str, Any]:
    files = _FILES if scheme == "rediss" else ()
    if not query.keys() <= {*_TIMEOUTS, *files}:
        known = ", ".join(("db", "prefix", "username", "password", *_TIMEOUTS, *files))
        _reject(f"it has an unknown option; known: {known}")
    options: dict[str, Any] = {name: _seconds(query.get(name, TIMEOUT_S)) for name in _TIMEOUTS}
    for name in files:
        if name in query:
            options[name] = _file(name, query[name])
    return options


def _seconds(value: str | float) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= _MOST_SECONDS:
        _reject(f"a timeout is a number of seconds, more than 0 and up to {_MOST_SECONDS}")
    return seconds


def _file(name: str, path: str) -> str:
    if not Path(path).is_file():
        _reject(f"{name} names no file")
    return path


def _reject(what: str) -> NoReturn:
    message = f"POSTLUDE_CACHE_URL: {what}; {_FORM}, or leave it unset for a table of the ledger"
    # Without its cause: what urlsplit says about a port may be the end of a password.
    raise SettingsError(message) from None
