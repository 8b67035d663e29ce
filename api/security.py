"""Who may use the API: strangers are kept out, and keys have roles.

Without keys (``POSTLUDE_API_KEYS`` unset) only this machine is served, and nothing that merely
passes through it: not a web page of another site in a local browser, not a name that somebody
pointed at 127.0.0.1, not a reverse proxy. With keys, every address but ``/livez`` needs one.

The peer is the server's ``scope["client"]``. uvicorn replaces it from ``X-Forwarded-For`` unless it
runs with ``--no-proxy-headers``; that fools nothing here, because without keys such a header alone
is reason enough to refuse. A peer on a Unix socket has no address: it is nearly always a reverse
proxy, so it counts as a stranger and needs a key.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable, Sequence
from enum import StrEnum
from functools import lru_cache
from hashlib import sha256
from ipaddress import IPv6Address, ip_address
from urllib.parse import urlsplit

from pydantic import SecretStr
from starlette.types import ASGIApp, Receive, Scope, Send

from api.problems import Code, HttpProblem
from postlude.errors import SettingsError


class Role(StrEnum):
    """What a key may do; each role may do what the ones before it may."""

    VIEWER = "viewer"
    """Read everything."""
    SENDER = "sender"
    """Also add tasks."""
    OPERATOR = "operator"
    """Everything."""


SENDER_ROUTES = (
    "/send-notification/{email}",
    "/events",
    "/cache/{key}/refresh",
    "/files",
    "/v1/actors/{name}/tasks",
)
"""What the role ``sender`` may POST to. A route that is missing here needs ``operator``."""

CALLER = "postlude.caller"
"""Where the ASGI scope carries the secret of the key that a request came with."""

OPEN_PATH = "/livez"
"""What needs no key."""

_SENDER_PATH = re.compile("|".join(re.sub(r"\{\w+\}", "[^/]+", path) for path in SENDER_ROUTES))
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_SHORTEST_SECRET = 16
_RANK = {role: rank for rank, role in enumerate(Role)}

_FORWARDED = frozenset(
    {
        b"forwarded",
        b"via",
        b"x-real-ip",
        b"x-client-ip",
        b"x-cluster-client-ip",
        b"x-original-host",
        b"x-original-forwarded-for",
        b"x-envoy-external-address",
        b"x-azure-clientip",
        b"true-client-ip",
        b"cf-connecting-ip",
        b"cf-connecting-ipv6",
        b"cf-ray",
        b"fastly-client-ip",
        b"fly-client-ip",
        b"wl-proxy-client-ip",
    }
)
_FORWARDED_PREFIX = b"x-forwarded"
_WATCHED = _FORWARDED | {b"host", b"origin", b"sec-fetch-site"}
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[0-9a-z.-]+)(?::\d{0,5})?", re.IGNORECASE)


class Keys:
    """The configured keys, kept as SHA-256 digests."""

    def __init__(self, entries: Sequence[SecretStr]) -> None:
        """Read ``role:secret`` entries; raises SettingsError naming the entry, never its secret."""
        self._roles: list[tuple[bytes, Role]] = []
        for number, entry in enumerate(entries, start=1):
            role, _, secret = entry.get_secret_value().partition(":")
            if role not in set(Role) or len(secret) < _SHORTEST_SECRET:
                message = (
                    f"POSTLUDE_API_KEYS: entry {number} must be role:secret, with one of the roles "
                    f"{', '.join(Role)} and a secret of at least {_SHORTEST_SECRET} characters"
                )
                raise SettingsError(message)
            digest = sha256(secret.encode()).digest()
            if any(digest == known for known, _ in self._roles):
                message = f"POSTLUDE_API_KEYS: entry {number} repeats the secret of another entry"
                raise SettingsError(message)
            self._roles.append((digest, Role(role)))

    def __bool__(self) -> bool:
        return bool(self._roles)

    def role(self, secret: bytes) -> Role | None:
        """Return the role of ``secret``. Takes the same time whichever key fits, or none."""
        digest = sha256(secret).digest()
        found = None
        for known, role in self._roles:
            if hmac.compare_digest(known, digest):
                found = role
        return found


class Strangers:
    """Pure ASGI: serve whom the rules of this module allow; raises HttpProblem for the others."""

    def __init__(self, app: ASGIApp, *, keys: Keys) -> None:
        self.app = app
        self.keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or raise."""
        if scope["type"] == "http":
            if self.keys:
                self._check_key(scope)
            elif reason := strangeness(scope):
                raise _stranger(reason)
        elif scope["type"] == "websocket":
            # Nothing here speaks WebSocket; whatever will must bring a rule of its own.
            await send({"type": "websocket.close", "code": 1008})
            return
        await self.app(scope, receive, send)

    def _check_key(self, scope: Scope) -> None:
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if path == OPEN_PATH:
            return
        secret = _presented(scope)
        role = None if secret is None else self.keys.role(secret)
        if role is None:
            raise _unauthorized(given=secret is not None)
        needed = required_role(scope["method"], path)
        if _RANK[role] < _RANK[needed]:
            detail = f"This needs the role {needed}; the key has the role {role}."
            raise HttpProblem(Code.FORBIDDEN, detail)
        scope[CALLER] = secret


def required_role(method: str, path: str) -> Role:
    """Return the least role that may use this address; ``path`` may be a route's template."""
    if method in _SAFE_METHODS:
        return Role.VIEWER
    adds_tasks = method == "POST" and _SENDER_PATH.fullmatch(path)
    return Role.SENDER if adds_tasks else Role.OPERATOR


def strangeness(scope: Scope) -> str | None:
    """Say why a request was not made on and for this machine, directly; None if it was."""
    client = scope.get("client")
    if client is None or not is_loopback(client[0]):
        return "it did not come from this machine"
    host_seen = False
    for name, value in scope["headers"]:
        if name not in _WATCHED and not name.startswith(_FORWARDED_PREFIX):
            continue
        host_seen = host_seen or name == b"host"
        if reason := _strangeness_of_header(name, value):
            return reason
    return None if host_seen else "it has no Host header"


def _strangeness_of_header(name: bytes, value: bytes) -> str | None:
    if name == b"host":
        return None if _is_local_host(value) else "its Host header does not name this machine"
    if name == b"sec-fetch-site":
        return "a page of another site made it (Sec-Fetch-Site)" if value == b"cross-site" else None
    if name == b"origin":
        return None if _is_local_origin(value) else "a page of another site made it (Origin)"
    return f"it was forwarded by a proxy ({name.decode('latin-1')})"


@lru_cache(maxsize=256)
def is_loopback(name: str) -> bool:
    """Tell whether ``name`` is localhost or an address of the loopback interface."""
    if name.lower() in {"localhost", "localhost."}:
        return True
    try:
        address = ip_address(name)
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped.is_loopback
    return address.is_loopback


@lru_cache(maxsize=256)
def _is_local_host(value: bytes) -> bool:
    match = _HOST.fullmatch(value.decode("latin-1"))
    return match is not None and is_loopback(match[1].strip("[]"))


@lru_cache(maxsize=256)
def _is_local_origin(value: bytes) -> bool:
    try:
        origin = urlsplit(value.decode("latin-1"))
    except ValueError:
        return False
    return origin.scheme in {"http", "https"} and _is_local_host(origin.netloc.encode("latin-1"))


def _presented(scope: Scope) -> bytes | None:
    """Return the secret that the request shows: a bearer token, else ``X-API-Key``."""
    key: bytes | None = None
    headers: Iterable[tuple[bytes, bytes]] = scope["headers"]
    for name, value in headers:
        if name == b"authorization":
            scheme, _, token = value.partition(b" ")
            if scheme.lower() == b"bearer":
                return token.strip()
        elif name == b"x-api-key":
            key = value.strip()
    return key


def _unauthorized(*, given: bool) -> HttpProblem:
    challenge = 'Bearer realm="postlude"'
    if given:
        challenge += ', error="invalid_token"'
        detail = "The key is not known here."
    else:
        detail = "Send a key: Authorization: Bearer <secret>, or X-API-Key: <secret>."
    return HttpProblem(Code.UNAUTHORIZED, detail, headers={"www-authenticate": challenge})


def _stranger(reason: str) -> HttpProblem:
    detail = (
        f"This request is not served because {reason}, and no keys are set. To serve others than "
        "this machine, set POSTLUDE_API_KEYS=role:secret (roles: viewer, sender, operator), "
        "restart, and send the secret as Authorization: Bearer <secret>."
    )
    return HttpProblem(Code.STRANGER, detail)
