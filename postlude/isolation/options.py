"""The actor options ``isolation`` and ``memory_limit``, checked where the actor is declared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from postlude.errors import BadOptions
from postlude.sizes import parse_size

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dramatiq import Actor

OPTIONS = frozenset({"isolation", "memory_limit"})
PROCESS = "process"


def check(actor: str, options: Mapping[str, Any]) -> None:
    """Raise BadOptions for options that make no sense, saying which and what to write instead."""
    isolation, limit = options.get("isolation"), options.get("memory_limit")
    if isolation not in {None, PROCESS}:
        message = f"{actor}: isolation must be {PROCESS!r} or None, not {isolation!r}"
        raise BadOptions(message)
    if limit is None:
        return
    if isolation is None:
        message = f"{actor}: memory_limit needs isolation={PROCESS!r}: threads share their memory"
        raise BadOptions(message)
    try:
        parse_size(limit)
    except ValueError as error:
        message = f"{actor}: memory_limit: {error}"
        raise BadOptions(message) from None


def is_isolated(actor: Actor[..., Any]) -> bool:
    """Say whether every task of ``actor`` runs in a child process."""
    return actor.options.get("isolation") is not None


def memory_limit(actor: Actor[..., Any]) -> int | None:
    """Return how many bytes of address space a task of ``actor`` may use, None for no limit."""
    limit = actor.options.get("memory_limit")
    return None if limit is None else parse_size(limit)
