"""What our middleware has in common: each concern gets the delivery, typed, and all three endings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, cast

from dramatiq.middleware import Middleware

if TYPE_CHECKING:
    from dramatiq import Broker
    from dramatiq.broker import MessageProxy

    from postlude.broker.delivery import Delivery


class TaskMiddleware(Middleware):
    """A middleware around tasks; override what the concern needs. No method may block for long."""

    options: ClassVar[frozenset[str]] = frozenset()

    @property
    def actor_options(self) -> set[str]:
        """Name the options that actors may set for this middleware."""
        return set(self.options)

    def started(self, broker: Broker, task: Delivery) -> None:
        """Act before the actor runs; raising SkipMessage, or anything else, keeps it from running."""

    def ended(
        self, broker: Broker, task: Delivery, result: Any, error: BaseException | None
    ) -> None:
        """Act after the actor returned ``result`` or raised ``error``."""

    def skipped(self, broker: Broker, task: Delivery) -> None:
        """Act after a middleware kept the actor from running."""

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        """Dramatiq's hook: see :meth:`started`."""
        self.started(broker, cast("Delivery", message))

    def after_process_message(
        self,
        broker: Broker,
        message: MessageProxy,
        *,
        result: Any = None,
        exception: BaseException | None = None,
    ) -> None:
        """Dramatiq's hook: see :meth:`ended`."""
        self.ended(broker, cast("Delivery", message), result, exception)

    def after_skip_message(self, broker: Broker, message: MessageProxy) -> None:
        """Dramatiq's hook: see :meth:`skipped`."""
        self.skipped(broker, cast("Delivery", message))
