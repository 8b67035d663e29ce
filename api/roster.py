"""Every actor that this process or some worker knows, in one list.

Workers write what they know into the ledger; this process knows what it has imported. Where both
speak, the process's word counts: its signature is what arguments are checked against.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import dramatiq

from postlude import process
from postlude.broker import broker
from postlude.broker.intake import signature
from postlude.ledger.queries import actors
from postlude.ledger.queries.actors import ActorView

_PLAIN = (str, int, float, bool)


@dataclass(frozen=True, slots=True)
class KnownActor:
    """An actor; ``loaded`` says whether this process has imported it."""

    name: str
    queue: str
    schema: dict[str, Any]
    options: dict[str, Any]
    workers: int
    loaded: bool


def known() -> dict[str, KnownActor]:
    """Return all actors by name, sorted. Reads the ledger: not for the event loop's thread."""
    with process.current().ledger.read() as connection:
        on_record = {view.name: view for view in actors.known(connection)}
    loaded = broker().actors
    found = {name: _from_record(view) for name, view in on_record.items() if name not in loaded}
    for name, actor in loaded.items():
        view = on_record.get(name)
        found[name] = _from_process(actor, workers=view.workers if view else 0)
    return dict(sorted(found.items()))


def _from_record(view: ActorView) -> KnownActor:
    return KnownActor(
        name=view.name,
        queue=view.queue,
        schema=view.schema,
        options=view.options,
        workers=view.workers,
        loaded=False,
    )


def _from_process(actor: dramatiq.Actor[..., Any], *, workers: int) -> KnownActor:
    options = {name: value for name, value in actor.options.items() if isinstance(value, _PLAIN)}
    return KnownActor(
        name=actor.actor_name,
        queue=actor.queue_name,
        schema=signature(actor).json_schema(),
        options=options,
        workers=workers,
        loaded=True,
    )
