"""What the parameters of a function are: names, kinds, defaults and types as written in its source.

Reading the names is cheap and cannot fail. Resolving the types evaluates annotations, so it waits
until all modules are imported.
"""

from __future__ import annotations

import functools
import inspect
import sys
import typing
from collections.abc import Callable
from types import FunctionType, SimpleNamespace
from typing import Any, NamedTuple, cast

from dramatiq import GenericActor


class Hint(NamedTuple):
    """A parameter's type; ``unresolved`` is its annotation if that names nothing at run time."""

    type: Any
    unresolved: str | None = None


def body_of(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Return the callable whose signature counts: ``perform`` for a class-based actor."""
    return fn.perform if isinstance(fn, GenericActor) else fn


def signature_of(fn: Callable[..., Any]) -> inspect.Signature:
    """Return the signature of ``fn``; one that takes anything if it does not reveal its own."""
    try:
        if sys.version_info >= (3, 14):
            from annotationlib import Format  # noqa: PLC0415 - new in Python 3.14

            return inspect.signature(fn, annotation_format=Format.FORWARDREF)
        return inspect.signature(fn)
    except (TypeError, ValueError):
        # Callables written in C: the call itself will say what they do not take.
        return inspect.signature(_anything)


def hint_of(parameter: inspect.Parameter, fn: Callable[..., Any]) -> Hint:
    """Resolve the annotation of one parameter of ``fn``.

    A name that exists only for type checkers (``if TYPE_CHECKING``) or only inside the function
    that defined ``fn`` makes this one parameter untyped.
    """
    annotation = parameter.annotation
    if annotation is inspect.Parameter.empty:
        return Hint(Any)
    code = _code_of(fn)
    holder = SimpleNamespace(
        __annotations__={"it": annotation}, __type_params__=getattr(code, "__type_params__", ())
    )
    try:
        hints = typing.get_type_hints(holder, globalns=_globals_of(code), include_extras=True)
    except (AttributeError, NameError, SyntaxError, TypeError):
        return Hint(Any, str(getattr(annotation, "__forward_arg__", annotation)))
    return Hint(hints["it"])


def _anything(*args: Any, **kwargs: Any) -> None:
    """Take any arguments."""


def _code_of(fn: Any) -> Any:
    """Return what is innermost behind partials, wrappers and callable objects."""
    while True:
        if isinstance(fn, functools.partial):
            fn = fn.func
        elif hasattr(fn, "__wrapped__"):
            fn = fn.__wrapped__
        elif hasattr(fn, "__globals__"):
            return fn  # a function or a method
        else:
            call = type(fn).__call__
            return _code_of(call) if isinstance(call, FunctionType) else fn


def _globals_of(code: Any) -> dict[str, Any]:
    if hasattr(code, "__globals__"):
        return cast("dict[str, Any]", code.__globals__)
    module = getattr(code, "__module__", None) or type(code).__module__
    return vars(sys.modules[module]) if module in sys.modules else {}
