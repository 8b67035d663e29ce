"""Faults in arguments: which argument, where inside it, and what is wrong with it.

Names and messages can come from strangers, so all words are capped and safe to encode. Values are
repeated only where a validator's own message does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from postlude.arguments.json_values import NOT_JSON
from postlude.arguments.parts import Path
from postlude.errors import BadArguments

_NAME_LIMIT = 80
_DETAIL_LIMIT = 300
_FAULTS_LIMIT = 20
_SPOKEN_LIMIT = 5
_READ_LIMIT = 100
_MISSING = "The argument is missing"
PIPED = ", the last of them the result of the step before it; pipe_ignore=True leaves that out"
"""Words to add to a fault that only a step of a pipeline has."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with the arguments of a task.

    ``path`` leads from the object of named arguments to the fault; ``detail`` says what is wrong
    there; ``sentence`` goes on after "send_notification() ", in the words Python itself would use.
    """

    path: Path
    detail: str
    sentence: str


def missing(name: str) -> Fault:
    """Return the fault that a required argument was not given."""
    return Fault((name,), _MISSING, f"is missing the argument {shown(name)}")


def unexpected(name: Any) -> Fault:
    """Return the fault that the actor has no parameter of this name."""
    sentence = f"got an unexpected argument {shown(name)}"
    return Fault((str(name),), "The actor takes no argument of this name", sentence)


def repeated(name: str) -> Fault:
    """Return the fault that an argument was given by position and by name."""
    sentence = f"got multiple values for the argument {shown(name)}"
    return Fault((name,), "The argument was given more than once", sentence)


def bad(path: Path, detail: str) -> Fault:
    """Return the fault that the value at ``path`` does not fit; ``detail`` says why."""
    detail = clean(detail, _DETAIL_LIMIT)
    if not path:
        return Fault((), detail, f"got arguments that do not fit: {detail}")
    inside = f" at {clean(pointer(path), _DETAIL_LIMIT)}" if len(path) > 1 else ""
    return Fault(
        path, detail, f"got a bad value for the argument {shown(path[0])}{inside}: {detail}"
    )


def refusal(actor: str, faults: Sequence[Fault]) -> BadArguments:
    """Return the error to raise for ``faults``, of which there is at least one."""
    spoken = _sentences(faults)
    if len(spoken) > _SPOKEN_LIMIT:
        spoken[_SPOKEN_LIMIT:] = ["and more"]
    errors = tuple({"pointer": pointer(f.path), "detail": f.detail} for f in faults[:_FAULTS_LIMIT])
    return BadArguments(f"{clean(actor, _NAME_LIMIT)}() {'; '.join(spoken)}", errors)


def faults_of(error: ValidationError, document: Any) -> list[Fault]:
    """Turn what the schema says about ``document`` into faults, one for each place."""
    found: dict[Path, list[str]] = {}
    special: dict[Path, Callable[[str], Fault]] = {}
    for entry in error.errors(include_url=False, include_input=False)[:_READ_LIMIT]:
        path, detail, kind = _place(entry, document), _detail(entry), entry["type"]
        if len(path) == 1 and kind in _SPECIAL:
            special[path] = _SPECIAL[kind]
        details = found.setdefault(path, [])
        if detail not in details:  # the members of a union often say the same
            details.append(detail)
    return [
        special[path](str(path[0])) if path in special else bad(path, "; or: ".join(details))
        for path, details in found.items()
    ]


def pointer(path: Iterable[str | int]) -> str:
    """Write ``path`` as a JSON pointer (RFC 6901); long names in it are cut."""
    tokens = (clean(str(step), _NAME_LIMIT) for step in path)
    return "".join("/" + token.replace("~", "~0").replace("/", "~1") for token in tokens)


def shown(name: Any) -> str:
    """Return ``name`` in quotes, cut and escaped."""
    return repr(clean(str(name), _NAME_LIMIT))


def clean(words: str, most: int) -> str:
    """Cut ``words`` to ``most`` characters and escape what UTF-8 or a database cannot hold."""
    if len(words) > most:
        words = words[: most - 1] + "…"
    return words.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def _sentences(faults: Sequence[Fault]) -> list[str]:
    absent = [shown(fault.path[0]) for fault in faults if fault.detail == _MISSING]
    if not absent[1:]:
        return [fault.sentence for fault in faults]
    together = f"is missing the arguments {clean(', '.join(absent), _DETAIL_LIMIT)}"
    return [together, *(fault.sentence for fault in faults if fault.detail != _MISSING)]


_SPECIAL: Mapping[str, Callable[[str], Fault]] = {"missing": missing, "extra_forbidden": unexpected}


def _detail(entry: Mapping[str, Any]) -> str:
    if entry["type"] == NOT_JSON:
        return str(entry["ctx"]["words"])
    words = str(entry["msg"])
    for prefix in ("Value error, ", "Assertion failed, "):
        words = words.removeprefix(prefix)
    return words


def _place(entry: Mapping[str, Any], document: Any) -> Path:
    """Return the place in the document: Pydantic also names members of unions and validators."""
    path: list[str | int] = []
    at = document
    for step in entry["loc"]:
        if _is_step(step, at):
            at = at[step]
        elif step != entry["loc"][-1] or entry["type"] not in _SPECIAL:
            continue
        path.append(step)
    if entry["type"] == NOT_JSON:
        path.extend(entry["ctx"]["path"])
    return tuple(path)


def _is_step(step: str | int, document: Any) -> bool:
    if isinstance(document, Mapping):
        return step in document
    return (
        isinstance(document, list | tuple) and isinstance(step, int) and 0 <= step < len(document)
    )
