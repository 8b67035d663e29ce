"""The JSON schema of an actor's named arguments, as HTTP and the actors table show it."""

from __future__ import annotations

import json
from collections.abc import Set as AbstractSet
from typing import Any

from pydantic.errors import PydanticInvalidForJsonSchema
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from postlude.arguments.binding import Binding
from postlude.arguments.schema import ArgumentsSchema
from postlude.arguments.travel import BASE64


def json_schema_of(schema: ArgumentsSchema, binding: Binding) -> dict[str, Any]:
    """Return the JSON schema: an object of named arguments with defaults where JSON has them.

    What the schema language cannot say (a validator in Python) is left open, never an error.
    """
    made = _Generator(by_alias=True).generate(schema.core, mode="validation")
    properties: dict[str, Any] = made.get("properties", {})
    for name, default in binding.defaults.items():
        text = _default(schema, name, default)
        if text is not None:
            properties[name] = {**properties[name], "default": text[0]}
    unknown: Any = False
    if binding.extra:
        unknown = properties[binding.extra].get("additionalProperties", True)
    whole = {
        "type": "object",
        "properties": properties,
        "required": made.get("required", []),
        "additionalProperties": unknown,
    }
    return {**whole, "$defs": made["$defs"]} if "$defs" in made else whole


class _Generator(GenerateJsonSchema):
    """Pydantic's generator without titles made from names, and open where it would raise."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - Pydantic's signature
        """Leave out titles that only repeat the parameter's name."""
        return False

    def typed_dict_field_schema(self, schema: core_schema.TypedDictField) -> JsonSchemaValue:
        """Describe a parameter that JSON Schema cannot as anything; the validator still checks it."""
        try:
            return super().typed_dict_field_schema(schema)
        except PydanticInvalidForJsonSchema:
            return {}

    def bytes_schema(self, schema: core_schema.BytesSchema) -> JsonSchemaValue:
        """Say that bytes travel as base64, in the alphabet for URLs."""
        made = super().bytes_schema(schema)
        return {**made, "format": "base64url"} if BASE64 in schema.get("metadata", {}) else made

    def emit_warning(self, kind: Any, detail: str) -> None:
        """Stay silent about what is left out because JSON has no form for it."""


def _default(schema: ArgumentsSchema, name: str, default: Any) -> tuple[Any] | None:
    """Return the default in its JSON form, as a tuple because None is one; None without."""
    try:
        plain = schema.serializer.to_python({name: default}, mode="json", warnings="none")[name]
        value = json.loads(json.dumps(plain, allow_nan=False))
        # In an order that is the same in every process, as the fingerprint must be.
        return (sorted(value, key=json.dumps) if isinstance(default, AbstractSet) else value,)
    except (TypeError, ValueError, RecursionError):
        return None  # a sentinel, say: it means something to the function alone
