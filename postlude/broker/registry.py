"""Which delivery brings queued tasks to the workers: chosen by ``POSTLUDE_BROKER_URL``.

A broker is one module with a class that fits :class:`Delivers`, a line here, and a parameter of the
conformance suite.
"""

from __future__ import annotations

import threading
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

from postlude import process

if TYPE_CHECKING:
    from dramatiq import Broker, Consumer

    from postlude.process import Process

#: URL scheme → module and class. The empty scheme is the default.
DELIVERIES = {
    "": ("postlude.broker.ledger", "LedgerDelivery"),
    "amqp": ("postlude.broker.rabbitmq", "RabbitDelivery"),
    "amqps": ("postlude.broker.rabbitmq", "RabbitDelivery"),
}


class Delivers(Protocol):
    """A way for queued tasks to reach workers. One a process; used by any thread."""

    def __init__(self, owner: Process) -> None:
        """Open nothing yet."""

    def consumer(self, broker: Broker, queue: str, prefetch: int, timeout: int) -> Consumer:
        """Return a consumer of ``queue``: it claims tasks in the ledger before it hands them out."""

    def publish(self) -> None:
        """Hand tasks that have become queued to the broker; the relay's thread calls it after changes.

        Raises LedgerError or BrokerAway, and is called again soon.
        """

    def close(self) -> None:
        """Close every connection."""


_lock = threading.Lock()
_delivery: tuple[Process, Delivers] | None = None


def delivery() -> Delivers:
    """Return this process's delivery, made on first use and anew for a new life of the process."""
    global _delivery  # noqa: PLW0603 - one a process, as its ledger
    with _lock:
        owner = process.current()
        if _delivery is None or _delivery[0] is not owner:
            _delivery = (owner, _build(owner))
        return _delivery[1]


def close_delivery() -> None:
    """Close this process's delivery, if it has one."""
    global _delivery
    with _lock:
        found, _delivery = _delivery, None
    if found:
        found[1].close()


def _build(owner: Process) -> Delivers:
    scheme = owner.settings.broker_url.partition("://")[0]
    module, name = DELIVERIES[scheme]
    return cast("Delivers", getattr(import_module(module), name)(owner))
