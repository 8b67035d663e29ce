"""Version 2 of the same code: its actor has gained a parameter."""

from __future__ import annotations

import dramatiq
from fleet_actors import *  # noqa: F403 - the actors are what this is for
from fleet_actors import QUEUE, note


@dramatiq.actor(queue_name=QUEUE)
def versioned(name: str, shout: bool = False) -> str:
    note(f"v2 {name}")
    return f"v2 {shout}"
