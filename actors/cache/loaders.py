"""Where values come from: a loader for each key, registered by the package that knows the answer.

@loader("analytics-summary", fresh_for="1m")
def load_summary(connection: Connection, now: datetime) -> dict[str, Any]: ...
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any

from pydantic import AfterValidator, Field
from sqlalchemy import Connection

from postlude.durations import parse_duration
from postlude.errors import PostludeError

Load = Callable[[Connection, datetime], Any]
"""Reads a JSON value from the ledger's database; the second argument is the present."""


@dataclass(frozen=True, slots=True)
class Loader:
    """What is behind one key; its value counts as stale when it is older than ``fresh_for``."""

    key: str
    load: Load
    fresh_for: timedelta


class UnknownKey(PostludeError, LookupError):
    """No loader has this key."""

    code = "unknown-cache-key"
    status = 404
    title = "There is no such key in the cache"


_loaders: dict[str, Loader] = {}


def loader(key: str, *, fresh_for: str) -> Callable[[Load], Load]:
    """Make the function below the loader of ``key``; ``fresh_for`` is a duration such as "1m".

    It may run twice, also at once. What it raises is kept beside the value that was there before.
    """

    def register(load: Load) -> Load:
        _loaders[key] = Loader(key, load, parse_duration(fresh_for))
        return load

    return register


def find(key: str) -> Loader:
    """Return the loader of ``key``; UnknownKey names those that there are."""
    try:
        return _loaders[key]
    except KeyError:
        known = ", ".join(sorted(_loaders)) or "none"
        message = f"the cache has no key {key[:100]!r}; known: {known}"
        raise UnknownKey(message) from None


def _known(key: str) -> str:
    try:
        return find(key).key
    except UnknownKey as error:
        raise ValueError(str(error)) from None


Key = Annotated[str, Field(max_length=100), AfterValidator(_known)]
"""A key that has a loader: an argument of this type is checked when the task is added."""
