"""``group.run()`` of a group without callbacks: one batch, where Dramatiq enqueues one by one.

Dramatiq tells nobody that such a group is about to be run, so its ``run`` is wrapped. Groups of other
brokers, and those with callbacks, which are announced by their barrier, go the way they went.
"""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any, cast

from dramatiq.composition import group

from postlude.broker import PostludeBroker

if TYPE_CHECKING:
    from collections.abc import Callable

    from dramatiq import Broker

_one_by_one: Callable[..., group] = group.run


@wraps(_one_by_one)
def _run(self: group, *, delay: int | None = None) -> group:
    if self.completion_callbacks or not _is_ours(self):
        return _one_by_one(self, delay=delay)
    cast("PostludeBroker", self.broker).enqueue_group(self, delay=delay)
    return self


def store_groups_as_a_whole() -> None:
    """Wrap ``group.run``; may be called again."""
    group.run = _run  # type: ignore[method-assign]


def _is_ours(work: group) -> bool:
    return all(isinstance(broker, PostludeBroker) for broker in _brokers(work))


def _brokers(work: Any) -> list[Broker]:
    """Return the brokers that the parts of ``work`` want to be run on."""
    own = [work.broker] if hasattr(work, "broker") else []
    return own + [found for child in getattr(work, "children", ()) for found in _brokers(child)]
