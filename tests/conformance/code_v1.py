"""Version 1 of somebody's code: an actor with one parameter; beside it the fleet's."""

from __future__ import annotations

import dramatiq
from fleet_actors import *  # noqa: F403 - the actors are what this is for
from fleet_actors import QUEUE, note


@dramatiq.actor(queue_name=QUEUE)
def versioned(name: str) -> str:
    note(f"v1 {name}")
    return "v1"
