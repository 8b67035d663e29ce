"""Makes Postlude's broker Dramatiq's default, at import and without opening anything."""

from __future__ import annotations

import dramatiq
from dramatiq import broker as dramatiq_broker

from postlude.broker import PostludeBroker
from postlude.broker.batch import store_groups_as_a_whole
from postlude.middleware import default_middleware
from postlude.middleware.interrupts import Interrupts


def install_default_broker() -> None:
    """Set a fresh broker, unless ours is set already. Actors declared from now on belong to it."""
    store_groups_as_a_whole()
    if not isinstance(dramatiq_broker.global_broker, PostludeBroker):
        interrupts = Interrupts()
        dramatiq.set_broker(PostludeBroker(default_middleware(interrupts), interrupts))
