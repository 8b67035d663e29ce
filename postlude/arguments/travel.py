"""Which types survive the way through JSON: the schema of one parameter, rewritten.

``Any``, at whatever depth, is narrowed to JSON values; an iterable becomes a list; what can never
come back is refused. A schema is ``exact`` if whatever it accepts comes back equal and of the same
type. Of the others, values are compared when a task is added: a ``str | datetime`` would come back
as text, a SecretStr as asterisks.
"""

from __future__ import annotations

import collections.abc
import typing
from collections.abc import Callable
from typing import Any, ClassVar, cast

from pydantic import EmailStr
from pydantic_core import core_schema

from postlude.arguments import json_values

Schema = dict[str, Any]

BASE64 = "postlude_base64"
"""Metadata of bytes that travel as base64; those inside models travel as their models say."""

# Leaves alone what it has normalised, and is too slow to be run again to see that.
_EMAIL = cast("Any", EmailStr)._validate  # noqa: SLF001 - its name in the schema
_NEVER = frozenset({"callable", "is-instance", "is-subclass"})


class CannotTravel(Exception):
    """A type has no form in JSON that could be turned back into it."""


class Travel:
    """Rewrites the schema of one parameter; ``exact`` tells afterwards what became of it."""

    def __init__(self) -> None:
        self.exact = True

    def rewrite(self, schema: core_schema.CoreSchema) -> core_schema.CoreSchema:
        """Return ``schema`` narrowed to what travels; raises CannotTravel.

        References (models, dataclasses, named type aliases) stay as their authors made them.
        """
        return cast("core_schema.CoreSchema", self._rewrite(cast("Schema", schema)))

    def _rewrite(self, schema: Schema) -> Schema:
        kind = schema["type"]
        if kind in _NEVER:
            raise CannotTravel
        if _is_sequence(schema):
            return self._items(schema["json_schema"])
        rewrite = self._BY_KIND.get(kind)
        if rewrite is None or "serialization" in schema:
            self.exact = False
            return schema
        return rewrite(self, schema)

    def _any(self, schema: Schema) -> Schema:  # noqa: ARG002 - one signature for all kinds
        return cast("Schema", json_values.json_schema())

    def _exact(self, schema: Schema) -> Schema:
        return schema

    def _number(self, schema: Schema) -> Schema:
        # JSON has no infinite number, whoever allows one.
        return {**schema, "allow_inf_nan": False} if "allow_inf_nan" in schema else schema

    def _bytes(self, schema: Schema) -> Schema:
        return {**schema, "metadata": {**schema.get("metadata", {}), BASE64: True}}

    def _items(self, schema: Schema) -> Schema:
        # One error for each list is enough: a hostile body could hold a quarter of a million.
        items = self._rewrite(_inner(schema, "items_schema"))
        return {**schema, "items_schema": items, "fail_fast": True}

    def _iterable(self, schema: Schema) -> Schema:
        return self._items({"type": "list", "items_schema": _inner(schema, "items_schema")})

    def _tuple(self, schema: Schema) -> Schema:
        items = [self._rewrite(item) for item in schema["items_schema"]]
        return {**schema, "items_schema": items, "fail_fast": True}

    def _dict(self, schema: Schema) -> Schema:
        keys = _inner(schema, "keys_schema")
        if keys["type"] == "any":
            keys = cast("Schema", core_schema.str_schema(strict=True))
        elif keys["type"] != "str":
            self.exact = False
        values = self._rewrite(_inner(schema, "values_schema"))
        return {**schema, "keys_schema": keys, "values_schema": values}

    def _nullable(self, schema: Schema) -> Schema:
        return {**schema, "schema": self._rewrite(schema["schema"])}

    def _wrapper(self, schema: Schema) -> Schema:
        if schema.get("function", {}).get("function") != _EMAIL:
            self.exact = False  # the validator may not leave its own output alone
        return self._nullable(schema)

    def _union(self, schema: Schema) -> Schema:
        self.exact = False  # the text of one member may be that of another
        choices, travelling = [], 0
        for choice in schema["choices"]:
            member, *label = choice if isinstance(choice, tuple) else (choice,)
            # A type may accept its instances beside the text that they are made from.
            if member["type"] not in _NEVER:
                member = self._rewrite(member)
                travelling += 1
            choices.append((member, *label) if label else member)
        if not travelling:
            raise CannotTravel
        return {**schema, "choices": choices}

    def _literal(self, schema: Schema) -> Schema:
        if any(type(value) is not str for value in schema["expected"]):
            self.exact = False
        return schema

    # A time is not among them: the seconds of an offset are lost.
    _BY_KIND: ClassVar[dict[str, Callable[[Travel, Schema], Schema]]] = {
        "any": _any,
        "str": _exact,
        "int": _exact,
        "bool": _exact,
        "none": _exact,
        "uuid": _exact,
        "float": _number,
        "decimal": _number,
        "bytes": _bytes,
        "list": _items,
        "set": _items,
        "frozenset": _items,
        "tuple": _tuple,
        "generator": _iterable,
        "dict": _dict,
        "nullable": _nullable,
        "union": _union,
        "literal": _literal,
        "default": _wrapper,
        "function-after": _wrapper,
        "function-before": _wrapper,
        "function-wrap": _wrapper,
    }


def _is_sequence(schema: Schema) -> bool:
    """Say whether this is Pydantic's schema of ``Sequence``; of that, a list comes back."""
    if schema["type"] != "json-or-python" or schema["json_schema"]["type"] != "list":
        return False
    python = schema["python_schema"]
    first = python["steps"][0] if python["type"] == "chain" else python
    return first.get("cls") in (typing.Sequence, collections.abc.Sequence)


def _inner(schema: Schema, key: str) -> Schema:
    inner: Schema = schema.get(key) or {"type": "any"}
    return inner
