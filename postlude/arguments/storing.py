"""From validated arguments to the text that is stored, or the reason why it must not be."""

from __future__ import annotations

from typing import Any

import pydantic_core
from pydantic_core import ValidationError

from postlude.arguments import faults, parts, text
from postlude.arguments.json_values import NOT_FINITE
from postlude.arguments.schema import ArgumentsSchema
from postlude.errors import BadArguments


def stored(schema: ArgumentsSchema, actor: str, checked: dict[str, Any], limit: int | None) -> str:
    """Return ``checked`` as JSON text that the worker turns into equal values again.

    ``limit`` is in bytes. Raises BadArguments.
    """
    try:
        data = schema.dump(checked)
    except (ValueError, RecursionError) as error:
        raise unwritable(actor, checked, error) from None
    flaw = text.flaw_of(data, limit)
    if flaw is not None:
        place = parts.find(checked, flaw.guilty) if flaw.guilty else None
        raise faults.refusal(actor, [faults.bad(place or (), flaw.words)])
    if not schema.inexact.isdisjoint(checked):
        _read_back(schema, actor, checked, data)
    return data.decode()


def unwritable(actor: str, named: dict[str, Any], error: Exception) -> BadArguments:
    """Return the error to raise for arguments that could not be written as JSON."""
    place = parts.find(named, parts.lone_surrogate)
    if place is not None:
        words = "it contains half a character (a lone surrogate), which UTF-8 cannot express"
        return faults.refusal(actor, [faults.bad(place, words)])
    words = str(error).removeprefix("Error serializing to JSON: ").removeprefix("ValueError: ")
    return faults.refusal(
        actor, [faults.bad(_culprit(named), f"cannot be written as JSON: {words}")]
    )


def _culprit(named: dict[str, Any]) -> parts.Path:
    for name, value in named.items():
        try:
            pydantic_core.to_json(value, bytes_mode="base64")
        except (ValueError, RecursionError):
            return (name,)  # the answer that was asked for
    return ()


def _read_back(schema: ArgumentsSchema, actor: str, checked: dict[str, Any], data: bytes) -> None:
    """Refuse arguments of which ``data`` would make something else in the worker."""
    try:
        back = schema.read_back(data)
    except ValidationError as error:
        found = faults.faults_of(error, pydantic_core.from_json(data))
    else:
        given = {name: checked[name] for name in schema.inexact if name in checked}
        found = _changed(given, back)
    if not found:
        return
    place = parts.find(checked, parts.non_finite)
    if place is not None:
        found = [faults.bad(place, NOT_FINITE)]
    raise faults.refusal(actor, found)


def _changed(arguments: dict[str, Any], back: dict[str, Any]) -> list[faults.Fault]:
    found = parts.difference(arguments, back)
    if found is None:
        return []
    path, given, returned = found
    kinds = [type(given).__qualname__, type(returned).__qualname__]
    became = "with another value" if kinds[0] == kinds[1] else f"as {kinds[1]:.80}"
    return [faults.bad(path, f"a value of type {kinds[0]:.80} would come back from JSON {became}")]
