"""Version 1 of somebody's code, with actors whose tasks run in a child: always, or once suspected."""

from __future__ import annotations

import dramatiq
from fleet_actors import *  # noqa: F403 - the actors are what this is for
from fleet_actors import QUEUE, note, wait_for


@dramatiq.actor(queue_name=QUEUE, isolation="process")
def versioned_apart(name: str) -> str:
    return "v1"


@dramatiq.actor(queue_name=QUEUE)
def versioned_holding(name: str) -> str:
    note(name)
    wait_for(name)
    return "v1"
