"""How Python binds arguments to parameters, planned once per actor and reversible.

``inspect.Signature.bind`` gives the same answers, ten times slower, and names one fault only.
Whether an argument is missing is left to the schema, which also sees what HTTP sends.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from postlude.arguments import faults

_BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_BY_KEYWORD = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


@dataclass(frozen=True, slots=True)
class Binding:
    """The parameters of one actor by the ways in which arguments reach them.

    ``rest`` and ``extra`` are the names of ``*args`` and ``**kwargs``, if it has them. All methods
    are pure and raise BadArguments.
    """

    actor: str
    positional: tuple[str, ...]
    positional_only: int
    by_keyword: frozenset[str]
    defaults: Mapping[str, Any]
    rest: str | None
    extra: str | None
    plain: bool

    @classmethod
    def of(cls, signature: inspect.Signature, actor: str) -> Binding:
        """Plan the binding for ``signature``; ``actor`` is the name that errors give."""
        parameters = signature.parameters.values()
        kinds = {parameter.kind: parameter.name for parameter in parameters}
        positional_only = sum(p.kind is p.POSITIONAL_ONLY for p in parameters)
        rest = kinds.get(inspect.Parameter.VAR_POSITIONAL)
        extra = kinds.get(inspect.Parameter.VAR_KEYWORD)
        return cls(
            actor=actor,
            positional=tuple(p.name for p in parameters if p.kind in _BY_POSITION),
            positional_only=positional_only,
            by_keyword=frozenset(p.name for p in parameters if p.kind in _BY_KEYWORD),
            defaults={p.name: p.default for p in parameters if p.default is not p.empty},
            rest=rest,
            extra=extra,
            plain=not positional_only and rest is None and extra is None,
        )

    def bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of a call by name; ``*args`` is a list, ``**kwargs`` a dict."""
        named: dict[str, Any] = dict(zip(self.positional, args, strict=False))
        if self.plain:
            named.update(kwargs)
            if len(named) == len(args) + len(kwargs):
                return named  # names that the actor does not have are the schema's to refuse
        return self._bind(args, kwargs)

    def gather(self, named: Mapping[str, Any]) -> dict[str, Any]:
        """Return arguments that came by name, with unknown names moved to ``**kwargs``, if any."""
        if self.extra is None:
            return dict(named)
        known = {*self.positional, *self.by_keyword, self.rest, self.extra}
        unknown = {name: value for name, value in named.items() if name not in known}
        gathered = {name: value for name, value in named.items() if name in known}
        extra = gathered.get(self.extra, {})
        if not unknown or not isinstance(extra, dict):
            return gathered
        twice = unknown.keys() & extra.keys()
        if twice:
            raise faults.refusal(self.actor, [faults.repeated(name) for name in sorted(twice)])
        return {**gathered, self.extra: {**extra, **unknown}}

    def check(self, named: Mapping[str, Any]) -> None:
        """Refuse validated arguments of which ``**kwargs`` names a parameter of its own."""
        extra = named.get(self.extra) if self.extra else None
        twice = self.by_keyword.intersection(extra) if extra else ()
        if twice:
            raise faults.refusal(self.actor, [faults.repeated(name) for name in sorted(twice)])

    def taker(self, given: int) -> str:
        """Return the parameter that takes one more positional argument after ``given`` ones."""
        if given < len(self.positional):
            return self.positional[given]
        if self.rest is None:
            raise faults.refusal(self.actor, [self._too_many(given + 1, faults.PIPED)])
        return self.rest

    def call(self, named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return validated arguments as the call's; ``named`` is used up.

        Whatever can be passed by name is, so that defaults stay the function's business. Only what
        comes before a positional argument is filled with its default.
        """
        if self.plain:
            return (), named
        self.check(named)
        rest = named.pop(self.rest, ()) if self.rest else ()
        extra = named.pop(self.extra, {}) if self.extra else {}
        leading = self.positional if rest else self.positional[: self.positional_only]
        while leading and leading[-1] not in named and not rest:
            leading = leading[:-1]
        args = [named.pop(name) if name in named else self.defaults[name] for name in leading]
        return (*args, *rest), {**named, **extra}

    def _bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        named: dict[str, Any] = dict(zip(self.positional, args, strict=False))
        found = []
        beyond = args[len(self.positional) :]
        if beyond and self.rest:
            named[self.rest] = list(beyond)
        elif beyond:
            found.append(self._too_many(len(args)))
        extra: dict[str, Any] = {}
        for name, value in kwargs.items():
            if name in self.by_keyword and name in named:
                found.append(faults.repeated(name))
            elif name in self.by_keyword:
                named[name] = value
            elif self.extra:
                extra[name] = value
            else:
                found.append(self._not_by_keyword(name))
        if found:
            raise faults.refusal(self.actor, found)
        if extra and self.extra:
            named[self.extra] = extra
        return named

    def _too_many(self, given: int, why: str = "") -> faults.Fault:
        taken = len(self.positional)
        noun = "argument" if taken == 1 else "arguments"
        verb = "was" if given == 1 else "were"
        words = f"takes {taken} positional {noun} but {given} {verb} given{why}"
        return faults.Fault((), f"The actor {words}", words)

    def _not_by_keyword(self, name: Any) -> faults.Fault:
        if name not in self.positional:
            return faults.unexpected(name)
        words = f"takes the argument {faults.shown(name)} by position only"
        return faults.Fault((name,), f"The actor {words}", words)
