"""A group with callbacks while Dramatiq's ``group.run`` enqueues its members, one after the other.

They are kept here until the last one has come, so that the group is stored as a whole or not at all.
Nothing waits meanwhile: it all happens within one call, in one thread.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog

from postlude.errors import BadOptions

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from postlude.broker.composition import Step
    from postlude.ledger.task import NewTask

log = structlog.get_logger()


class OpenGroup:
    """What of a group has come so far, checked and encoded; ``missing`` members are still to come."""

    def __init__(self, group_id: str, size: int) -> None:
        self.group_id = group_id
        self.missing = size
        self.steps: list[Step] = []
        self.tasks: list[NewTask] = []

    def add(self, steps: Sequence[Step], tasks: Sequence[NewTask]) -> None:
        """Take in ``steps`` and the tasks that they will be."""
        self.steps += steps
        self.tasks += tasks


class _Here(threading.local):
    """The group that this thread is running; there is one at a time."""

    group: OpenGroup | None = None


_here = _Here()


def begin(group_id: str, size: int) -> None:
    """Note that this thread is about to enqueue the ``size`` members of a group.

    One that was begun before and did not become whole, because its run raised, is dropped.
    """
    if _here.group is not None:
        log.warning("group.dropped", group=_here.group.group_id, reason="its run did not finish")
    _here.group = OpenGroup(group_id, size)


@contextmanager
def joining(group_id: str) -> Iterator[OpenGroup]:
    """Lend the group that this thread is running to one of its members.

    It is forgotten when it is whole, or when the block raises: nothing of it is stored then. Raises
    BadOptions if this thread is running another group, or none.
    """
    group = _here.group
    if group is None or group.group_id != group_id:
        message = (
            f"this thread is not running the group {group_id}: run or add a group as a whole, not"
            " its messages one by one"
        )
        raise BadOptions(message)
    _here.group = None
    yield group
    if group.missing:
        _here.group = group
