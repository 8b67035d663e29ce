"""Brings the ledger's schedules in line with what the code declares, when a scheduler boots."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import structlog

from postlude.errors import BadArguments, BadOptions
from postlude.ledger.queries import schedules
from postlude.ledger.transitions import schedule
from postlude.ledger.transitions.schedule import Change, NewSchedule
from postlude.schedules import spec
from postlude.schedules.trigger import build

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from postlude.broker import PostludeBroker
    from postlude.ledger.ledger import Ledger
    from postlude.ledger.statement import Tx
    from postlude.schedules.declare import Declaration

log = structlog.get_logger()


def sync(
    ledger: Ledger,
    declarations: Iterable[Declaration],
    broker: PostludeBroker,
    now: datetime,
    *,
    source: str,
) -> None:
    """Store what is new, change what has changed, retire what ``source`` no longer declares.

    Several applications may share a ledger, each with a scheduler of its own. One transaction; may run
    again, and several schedulers may do it at once. With two versions of the code the last to boot
    decides, as in any deploy. Raises LedgerError.
    """
    wanted = [_encoded(declaration, broker) for declaration in declarations]

    def write(tx: Tx) -> tuple[dict[str, Change], list[str]]:
        schedule.try_again(tx)
        changes = {each.id: schedule.declare(tx, each, source=source, now=now) for each in wanted}
        return changes, schedule.retire(tx, declared=changes, source=source, now=now)

    changes, retired = ledger.write(write)
    _announce(wanted, changes, retired)
    _warn_of_unknown_actors(ledger, broker)


def _encoded(declaration: Declaration, broker: PostludeBroker) -> NewSchedule:
    """Return ``declaration`` as a row; with arguments that do not fit it is kept, as broken."""
    actor = declaration.actor
    message = actor.message_with_options(args=declaration.args, kwargs=dict(declaration.kwargs))
    arguments, options, broken = "{}", {"queue": actor.queue_name}, None
    try:
        task = broker.prepare(message)
    except (BadArguments, BadOptions) as error:
        broken = str(error)
    else:
        arguments = task.arguments
        options = json.loads(task.options) | {"queue": task.queue, "priority": task.priority}
    trigger, zone = spec.read(json.loads(declaration.trigger)), spec.zone(declaration.timezone)
    return NewSchedule(
        id=declaration.id,
        actor=actor.actor_name,
        arguments=arguments,
        options=json.dumps(options, sort_keys=True),
        trigger=declaration.trigger,
        timezone=declaration.timezone,
        misfire=declaration.misfire.value,
        misfire_window=declaration.misfire_window,
        broken=broken,
        first_fire=lambda anchor, since: build(
            trigger, zone=zone, anchor=anchor
        ).get_next_fire_time(None, since),
    )


def _announce(
    wanted: Iterable[NewSchedule], changes: dict[str, Change], retired: Iterable[str]
) -> None:
    for each in wanted:
        change = changes[each.id]
        if change is Change.REFUSED:
            log.error(
                "schedule.refused", schedule=each.id, hint="made by the API; rename one of them"
            )
        elif each.broken:
            log.error("schedule.broken", schedule=each.id, actor=each.actor, error=each.broken)
        elif change is not Change.UNCHANGED:
            log.info(
                "schedule.declared",
                schedule=each.id,
                change=change.value,
                actor=each.actor,
                trigger=each.trigger,
                timezone=each.timezone,
            )
    for id_ in retired:
        log.warning("schedule.retired", schedule=id_, hint="code no longer declares it")


def _warn_of_unknown_actors(ledger: Ledger, broker: PostludeBroker) -> None:
    with ledger.read() as connection:
        actors = schedules.actors(connection)
    known = broker.get_declared_actors()
    for id_, actor in actors.items():
        if actor not in known:
            log.warning(
                "schedule.actor_unknown",
                schedule=id_,
                actor=actor,
                hint="its tasks wait until a worker knows that actor",
            )
