"""Which bucket: ``s3://bucket/optional/prefix?endpoint=https://host:port&region=name``.

No part of it is a secret, and nothing that could be one is accepted: credentials come from where every
AWS tool has them (AWS_ACCESS_KEY_ID, AWS_PROFILE, the machine's role, …). No message repeats the URL.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote, urlsplit

from postlude.errors import SettingsError

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_STEP = re.compile(r"[A-Za-z0-9!_.*'()-]+")  # what AWS calls safe in a key
_LABEL = r"(?!-)[a-z0-9-]{1,63}(?<!-)"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")
"""What boto3 takes: no underscore, which the names of containers may have."""
_REGION = re.compile(r"[a-z0-9-]+")
_OPTIONS = ("endpoint", "region")


@dataclass(frozen=True, slots=True)
class Address:
    """A bucket, the folder in it (``prefix``, which ends in a slash unless empty), and its server.

    What is None here, the AWS settings of this process say.
    """

    bucket: str
    prefix: str = ""
    endpoint: str | None = None
    region: str | None = None

    def __str__(self) -> str:
        """Name it for people."""
        place = f"s3://{self.bucket}/{self.prefix}".removesuffix("/")
        return f"{place} at {self.endpoint}" if self.endpoint else place


def parse(url: str) -> Address:
    """Read the URL of a bucket; SettingsError says what is wrong with it and what to write."""
    try:
        parts = urlsplit(url)
        options = _options(parts.query)
        _demand(not parts.fragment, "it has a '#' in it")
        return Address(_bucket(parts.netloc), _prefix(unquote(parts.path)), **options)
    except ValueError as error:
        fault = str(error) if isinstance(error, _Wrong) else "it cannot be read as an address"
        message = (
            f"POSTLUDE_STORAGE_URL: {fault}; write s3://bucket/optional/prefix, and for a server that "
            "is not AWS ?endpoint=https://host:port behind it; &region=name, if it has regions"
        )
        raise SettingsError(message) from None


class _Wrong(ValueError):
    """What is wrong with the URL, in words that do not repeat it."""


def _demand(holds: object, fault: str) -> None:
    if not holds:
        raise _Wrong(fault)


def _bucket(netloc: str) -> str:
    _demand(netloc, "it names no bucket")
    _demand(
        "@" not in netloc,
        "it has credentials in it, which belong into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    )
    _demand(":" not in netloc, "it has a host and port where the bucket's name belongs")
    _demand(
        _BUCKET.fullmatch(netloc),
        "what stands behind s3:// is no name of a bucket (3 to 63 small letters, digits, dots, hyphens)",
    )
    return netloc


def _prefix(path: str) -> str:
    steps = path.removeprefix("/").removesuffix("/")
    _demand(
        not steps or all(_STEP.fullmatch(step) and step.strip(".") for step in steps.split("/")),
        "its prefix may have letters, digits and !_.*'()- between single slashes",
    )
    return steps and steps + "/"


def _options(query: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)):
        _demand(name in _OPTIONS, f"it has the parameter {name!r}, which means nothing here")
        _demand(value and name not in found, f"it must have {name!r} once, and with a value")
        found[name] = _endpoint(value) if name == "endpoint" else _region(value)
    return found


def _endpoint(url: str) -> str:
    parts = urlsplit(url)
    _demand(
        parts.scheme in {"http", "https"}
        and parts.hostname
        and parts.port != 0  # asking for it checks it
        and not (parts.query or parts.fragment or "@" in parts.netloc),
        "its endpoint must be http://host:port or https://host:port",
    )
    _demand(
        ":" in str(parts.hostname) or _HOST.fullmatch(str(parts.hostname)),
        "its endpoint's host may have letters, digits, dots and hyphens (boto3 takes no other)",
    )
    return url.rstrip("/")


def _region(name: str) -> str:
    _demand(_REGION.fullmatch(name), "its region may have small letters, digits and hyphens")
    return name
