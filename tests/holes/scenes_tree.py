"""What ``dramatiq scenes_tree -p 2`` runs: children that have nothing to do but to say who they are."""

from __future__ import annotations

import os
from pathlib import Path

import dramatiq
from dramatiq.brokers.stub import StubBroker


class Children(dramatiq.Middleware):
    """Leaves a file with the process's id as its name."""

    def after_worker_boot(self, broker, worker):
        (Path(os.environ["HOLE_CHILDREN"]) / str(os.getpid())).touch()


broker = StubBroker()
broker.add_middleware(Children())
dramatiq.set_broker(broker)
