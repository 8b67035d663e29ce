"""The named arguments of one actor as a Pydantic schema: an object with exactly its parameters."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Collection, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Annotated, Any, cast

from pydantic import ConfigDict, GetCoreSchemaHandler, TypeAdapter
from pydantic.errors import (
    PydanticSchemaGenerationError,
    PydanticUndefinedAnnotation,
    PydanticUserError,
)
from pydantic_core import SchemaSerializer, SchemaValidator, core_schema

from postlude.arguments import faults
from postlude.arguments.hints import hint_of
from postlude.arguments.travel import CannotTravel, Travel
from postlude.errors import BadArguments

# Pydantic hands it down to dataclasses, typed dicts and named tuples without one of their own.
_CONFIG = ConfigDict(
    allow_inf_nan=False, ser_json_bytes="base64", val_json_bytes="base64", hide_input_in_errors=True
)
_CORE_CONFIG = cast("core_schema.CoreConfig", _CONFIG)  # these four have the same name in both
_NOT_SCHEMAS = frozenset({"default", "expected", "metadata"})


@dataclass(frozen=True, slots=True)
class ArgumentsSchema:
    """What a signature is compiled to; immutable, shared by all threads.

    ``inexact``: parameters whose values may come back from JSON as something else; they are read
    back before they are stored. ``unresolved``: annotations that name nothing at run time, by
    parameter; those are untyped.
    """

    core: core_schema.CoreSchema
    validator: SchemaValidator
    serializer: SchemaSerializer
    inexact: frozenset[str]
    reader: SchemaValidator | None
    by_alias: bool
    unresolved: Mapping[str, str]

    def dump(self, named: dict[str, Any]) -> bytes:
        """Return validated arguments as JSON; raises ValueError or RecursionError."""
        if not self.inexact:
            return self.serializer.to_json(named)
        # Values that contradict their types are found by reading back, so they need no warning.
        return self.serializer.to_json(
            named, by_alias=self.by_alias, round_trip=True, warnings="none"
        )

    def load(self, data: bytes | str) -> dict[str, Any]:
        """Return typed arguments from JSON; fields by name or alias. Raises ValueError."""
        named: dict[str, Any] = self.validator.validate_json(data, by_alias=True, by_name=True)
        return named

    def read_back(self, data: bytes) -> dict[str, Any]:
        """Return only the inexact arguments from JSON that was just dumped; raises ValueError."""
        if self.reader is None:
            return {}
        named: dict[str, Any] = self.reader.validate_json(data, by_alias=True, by_name=True)
        return named

    def without(self, name: str) -> ArgumentsSchema:
        """Return the schema of all parameters but one, which comes later; takes milliseconds."""
        core = _reduced(self.core, lambda names: names - {name})
        return _made(core, self.inexact - {name}, self.unresolved)


def compile_schema(
    signature: inspect.Signature, fn: Callable[..., Any], actor: str
) -> ArgumentsSchema:
    """Compile the schema for the parameters of ``fn``; takes milliseconds.

    Raises BadArguments naming actor, parameter and type if one cannot travel as JSON.
    """
    named = _NamedArguments(signature, fn, actor)
    core = TypeAdapter(Annotated[dict[str, Any], named], config=_CONFIG).core_schema
    return _made(core, frozenset(named.inexact), named.unresolved)


class _NamedArguments:
    """Annotation that makes Pydantic generate the schema of all parameters together."""

    def __init__(self, signature: inspect.Signature, fn: Callable[..., Any], actor: str) -> None:
        self.inexact: set[str] = set()
        self.unresolved: dict[str, str] = {}
        self._signature = signature
        self._fn = fn
        self._actor = actor

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        fields = {
            parameter.name: self._field(parameter, handler)
            for parameter in self._signature.parameters.values()
        }
        return core_schema.typed_dict_schema(fields, extra_behavior="forbid", config=_CORE_CONFIG)

    def _field(
        self, parameter: inspect.Parameter, handler: GetCoreSchemaHandler
    ) -> core_schema.TypedDictField:
        hint, unresolved = hint_of(parameter, self._fn)
        if unresolved is not None:
            self.unresolved[parameter.name] = unresolved
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            return self._collecting(parameter, hint, handler)
        schema = self._schema(parameter, hint, handler)
        if parameter.default is None and schema["type"] != "nullable":
            # "x: int = None" is the old spelling of "x: int | None = None".
            schema = core_schema.nullable_schema(schema)
        return core_schema.typed_dict_field(schema, required=parameter.default is parameter.empty)

    def _collecting(
        self, parameter: inspect.Parameter, hint: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.TypedDictField:
        """Return the field for ``*args`` or ``**kwargs``."""
        into: Any = list if parameter.kind is parameter.VAR_POSITIONAL else dict
        if typing.get_origin(hint) is typing.Unpack:
            # A tuple or TypedDict may demand members, so its absence is judged as if it were empty.
            schema = self._schema(parameter, typing.get_args(hint)[0], handler)
            schema = core_schema.with_default_schema(
                schema, default_factory=into, validate_default=True
            )
        else:
            whole = list[hint] if into is list else dict[str, hint]
            schema = self._schema(parameter, whole, handler)
        return core_schema.typed_dict_field(schema, required=False)

    def _schema(
        self, parameter: inspect.Parameter, hint: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        try:
            travel = Travel()
            schema = travel.rewrite(handler.generate_schema(hint))
        except (CannotTravel, PydanticSchemaGenerationError):
            reason = (
                ", of which no value can travel as JSON; pass an id and look it up in the actor"
            )
        except (PydanticUserError, PydanticUndefinedAnnotation) as error:
            reason = f": {error.message}".partition("\n")[0]
        else:
            if not travel.exact:
                self.inexact.add(parameter.name)
            return schema
        raise self._refusal(parameter, hint, reason) from None

    def _refusal(self, parameter: inspect.Parameter, hint: Any, reason: str) -> BadArguments:
        name = inspect.formatannotation(hint)
        words = f"is of type {faults.clean(name, 120)}{faults.clean(reason, 300)}"
        sentence = f"has a parameter {faults.shown(parameter.name)} that {words}"
        fault = faults.Fault((parameter.name,), f"The parameter {words}", sentence)
        return faults.refusal(self._actor, [fault])


def _made(core: Any, inexact: frozenset[str], unresolved: Mapping[str, str]) -> ArgumentsSchema:
    reader = _reduced(core, lambda _names: inexact, extra_behavior="ignore")
    return ArgumentsSchema(
        core=core,
        validator=SchemaValidator(core, _CORE_CONFIG),
        serializer=SchemaSerializer(core, _CORE_CONFIG),
        inexact=inexact,
        reader=SchemaValidator(reader, _CORE_CONFIG) if inexact else None,
        by_alias=not _aliases_differ(core),
        unresolved=unresolved,
    )


def _reduced(
    schema: Any, choose: Callable[[AbstractSet[str]], Collection[str]], **changes: str
) -> Any:
    """Return the schema of named arguments with only those parameters that ``choose`` returns."""
    if schema["type"] == "definitions":
        return {**schema, "schema": _reduced(schema["schema"], choose, **changes)}
    fields = {name: schema["fields"][name] for name in choose(schema["fields"].keys())}
    return {**schema, **changes, "fields": fields}


def _aliases_differ(schema: Any) -> bool:
    """Say whether some field is written under another alias than it is read under.

    Such models are stored by field name, which is always read back.
    """
    if isinstance(schema, list | tuple):
        return any(_aliases_differ(item) for item in schema)
    if not isinstance(schema, dict):
        return False
    if schema.get("serialization_alias") != schema.get("validation_alias"):
        return True
    # A dict without a type is one of fields, any of which may be called "default".
    skipped = _NOT_SCHEMAS if isinstance(schema.get("type"), str) else frozenset()
    return any(_aliases_differ(value) for key, value in schema.items() if key not in skipped)
