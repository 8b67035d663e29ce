"""What our middleware has in common: each concern gets the delivery, typed, and all three endings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from dramatiq.middleware import Middleware

if TYPE_CHECKING:
    from dramatiq import Broker

    from postlude.broker.delivery import Delivery

_HOOKS = {
    "started": "before_process_message",
    "ended": "after_process_message",
    "skipped": "after_skip_message",
}


class TaskMiddleware(Middleware):
    """A middleware around tasks; override what the concern needs. No method may block for long."""

    options: ClassVar[frozenset[str]] = frozenset()
    stands_for: ClassVar[type[Middleware] | None] = None
    """The class of Dramatiq's whose place this one takes, for who adds a middleware beside it."""

    @property
    def actor_options(self) -> set[str]:
        """Name the options that actors may set for this middleware."""
        return set(self.options)

    def __init_subclass__(cls) -> None:
        """Make what a class overrides Dramatiq's hook of the same kind: no call in between.

        Dramatiq's own empty hooks stay in place of the others, and are not called at all.
        """
        for ours, hook in _HOOKS.items():
            if ours in vars(cls):
                setattr(cls, hook, vars(cls)[ours])

    def started(self, broker: Broker, task: Delivery) -> None:
        """Act before the actor runs; raising SkipMessage, or anything else, keeps it from running."""

    def ended(
        self,
        broker: Broker,
        task: Delivery,
        *,
        result: Any = None,
        exception: BaseException | None = None,
    ) -> None:
        """Act after the actor returned ``result`` or raised ``exception``."""

    def skipped(self, broker: Broker, task: Delivery) -> None:
        """Act after a middleware kept the actor from running."""
