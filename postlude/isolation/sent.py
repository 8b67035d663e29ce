"""New tasks on their way from an actor in a child to the worker, which stores them."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from postlude.ledger.task import NewTask

if TYPE_CHECKING:
    from collections.abc import Sequence


def pack(tasks: Sequence[NewTask]) -> Any:
    """Return ``tasks`` as JSON values."""
    return _adapter().dump_python(list(tasks), mode="json")


def unpack(values: Any) -> list[NewTask]:
    """Return the tasks that ``values`` stand for."""
    return _adapter().validate_python(values)


@lru_cache(maxsize=1)
def _adapter() -> TypeAdapter[list[NewTask]]:
    return TypeAdapter(list[NewTask])
