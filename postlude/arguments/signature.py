"""One actor's signature as the contract for its tasks: what may be sent, stored and called.

The stored text is a JSON object of named arguments, the same that HTTP shows and takes. Two equal
calls give the same text, however they spell the arguments, except for the order inside sets and
dicts. Defaults are not stored: the function applies its own when it runs.
"""

from __future__ import annotations

import copy
import hashlib
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pydantic_core
from pydantic_core import ValidationError

from postlude.arguments import faults, json_values
from postlude.arguments.binding import Binding
from postlude.arguments.hints import body_of, signature_of
from postlude.arguments.json_schema import json_schema_of
from postlude.arguments.schema import ArgumentsSchema, compile_schema
from postlude.arguments.storing import stored, unwritable
from postlude.errors import BadArguments
from postlude.ledger.failure import words_of

# One at a time in a process: two actors may share a model whose schema is not complete yet.
_COMPILING = threading.RLock()


class Signature:
    """The signature of one actor function; immutable and safe to use from all threads.

    Its schema is compiled on first use. Every method that raises does so with BadArguments, a
    TypeError that lists each fault with its JSON pointer, in few words that never repeat a whole
    value. Only what an annotation's own validator raises besides ValueError passes through.
    """

    __slots__ = (
        "_binding",
        "_fn",
        "_json_schema",
        "_partial",
        "_schema",
        "_signature",
        "actor_name",
    )

    def __init__(self, fn: Callable[..., Any], actor_name: str) -> None:
        self.actor_name = actor_name
        self._fn = body_of(fn)
        self._signature = signature_of(self._fn)
        self._binding = Binding.of(self._signature, actor_name)
        self._schema: ArgumentsSchema | None = None
        self._partial: dict[str, ArgumentsSchema] = {}
        self._json_schema: dict[str, Any] | None = None

    @classmethod
    def of(cls, fn: Callable[..., Any], actor_name: str) -> Signature:
        """Read the signature of ``fn``; cheap, evaluates no annotation, never fails."""
        return cls(fn, actor_name)

    def compile(self) -> None:
        """Compile the schema now, as workers do at boot, so that a bad actor is found there.

        Raises BadArguments naming actor, parameter and type if one cannot travel as JSON. May run
        again and in several threads at once.
        """
        self._compiled()

    def encode(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], *, limit: int | None = None
    ) -> str:
        """Check the arguments of a call and return them as JSON text of at most ``limit`` bytes.

        They are coerced as their annotations say ("5" fits an ``int``). What would not come back
        from JSON as it is now is refused.
        """
        return self._encode(self._compiled(), self._binding.bind(args, kwargs), limit)

    def encode_piped(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], *, limit: int | None = None
    ) -> tuple[str, str]:
        """Do the same for a call that gets one more positional argument later, when it is known.

        Returns the JSON text and the parameter that takes it. If that is ``*args``, the text has a list
        there, at whose end it belongs.
        """
        taker = self._binding.taker(len(args))
        named = self._binding.bind(args, kwargs)
        if taker == self._binding.rest:
            named.setdefault(taker, [])
            return self._encode(self._compiled(), named, limit), taker
        if taker in named:
            raise self._refusal(faults.repeated(taker))
        return self._encode(self._without(taker), named, limit), taker

    def encode_named(self, named: Mapping[str, Any], *, limit: int | None = None) -> str:
        """Do the same for arguments as HTTP brings them: a JSON object, datetimes being strings.

        Names that the actor does not have go to its ``**kwargs``, if there are any.
        """
        schema = self._compiled()
        found = json_values.flaw_of(named) if isinstance(named, dict) else ((), "not a JSON object")
        if found is not None:
            raise self._refusal(faults.bad(*found))
        gathered = self._binding.gather(named)
        try:
            checked = schema.load(pydantic_core.to_json(gathered))
        except ValidationError as error:
            raise self._misfit(schema, error, gathered) from None
        except ValueError as error:
            raise unwritable(self.actor_name, gathered, error) from None
        self._binding.check(checked)
        return stored(schema, self.actor_name, checked, limit)

    def decode(self, arguments: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return what to call the function with, typed as its annotations say.

        Raises BadArguments if the stored text does not fit, say because the signature has changed.
        """
        schema = self._compiled()
        try:
            named = schema.load(arguments)
        except ValidationError as error:
            raise self._misfit(schema, error, _document(arguments)) from None
        except (TypeError, ValueError) as error:
            raise self._refusal(faults.bad((), str(error))) from None
        except Exception as error:
            # Somebody's validator. Whatever it raises is about this task alone, and those that were
            # claimed with it must not wait for it.
            words = f"{type(error).__name__}: {words_of(error)}"
            raise self._refusal(faults.bad((), words)) from error
        return self._binding.call(named)

    def json_schema(self) -> dict[str, Any]:
        """Return the JSON schema of the named arguments, the caller's to keep and change."""
        return copy.deepcopy(self._described())

    def fingerprint(self) -> str:
        """Return 16 hex digits that change when the JSON schema does."""
        canonical = json.dumps(self._described(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    def _encode(self, schema: ArgumentsSchema, named: dict[str, Any], limit: int | None) -> str:
        try:
            checked = schema.validator.validate_python(named, by_alias=True, by_name=True)
        except ValidationError as error:
            raise self._misfit(schema, error, named) from None
        return stored(schema, self.actor_name, checked, limit)

    def _without(self, name: str) -> ArgumentsSchema:
        found = self._partial.get(name)
        if found is None:
            found = self._partial[name] = self._compiled().without(name)
        return found

    def _compiled(self) -> ArgumentsSchema:
        if self._schema is None:
            with _COMPILING:
                if self._schema is None:
                    self._schema = compile_schema(self._signature, self._fn, self.actor_name)
        return self._schema

    def _described(self) -> dict[str, Any]:
        if self._json_schema is None:
            self._json_schema = json_schema_of(self._compiled(), self._binding)
        return self._json_schema

    def _misfit(
        self, schema: ArgumentsSchema, error: ValidationError, document: Any
    ) -> BadArguments:
        found = faults.faults_of(error, document)
        return faults.refusal(self.actor_name, [_explained(fault, schema) for fault in found])

    def _refusal(self, fault: faults.Fault) -> BadArguments:
        return faults.refusal(self.actor_name, [fault])


def _explained(fault: faults.Fault, schema: ArgumentsSchema) -> faults.Fault:
    """Add why a parameter that has an annotation is treated as if it had none."""
    annotation = schema.unresolved.get(str(fault.path[0])) if fault.path else None
    if annotation is None:
        return fault
    why = f"its annotation {faults.shown(annotation)} names nothing at run time"
    return faults.bad(fault.path, f"{fault.detail} ({why})")


def _document(arguments: str) -> Any:
    try:
        return pydantic_core.from_json(arguments)
    except (TypeError, ValueError):
        return None  # then there are no places to name
