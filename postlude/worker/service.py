"""What a worker process runs beside Dramatiq's threads, and the order in which it starts and stops."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import structlog

from postlude import logs, process
from postlude.broker.desk import Desk, current_desk, desk, open_desk
from postlude.broker.intake import signature
from postlude.broker.registry import close_delivery
from postlude.broker.relay import Relay
from postlude.errors import PostludeError
from postlude.ledger.transitions.incarnation import KnownActor, know
from postlude.settings import settings
from postlude.worker.chores import Chores
from postlude.worker.reaper import Reaper

if TYPE_CHECKING:
    from dramatiq import Broker, Worker

    from postlude.process import Process

log = structlog.get_logger()

STALE_S = 1.0
"""A claimed task that has not started by then is handed back: another worker may be idle."""


@dataclass(slots=True)
class _Life:
    """The threads beside the worker during one incarnation."""

    owner: Process
    chores: Chores
    relay: Relay

    def end(self) -> None:
        """Stop the threads; what they have under way they finish."""
        self.relay.stop()
        self.chores.stop()


_life: _Life | None = None


def start(broker: Broker, worker: Worker) -> None:
    """Open the ledger as a worker, register, and start the threads.

    Raises PostludeError when the ledger does not open or an actor cannot be called with JSON.
    """
    logs.configure(settings(), "worker")
    actors = [known_actor(broker, name) for name in sorted(broker.get_declared_actors())]
    process.open_as("worker", worker.consumer_whitelist or broker.get_declared_queues())
    open_desk(worker.worker_threads)
    _live(actors)
    log.info("worker.ready", incarnation=desk().incarnation, threads=worker.worker_threads)


def known_actor(broker: Broker, name: str) -> KnownActor:
    """Describe an actor for the ledger; raises BadArguments when it cannot be called with JSON."""
    actor = broker.get_actor(name)
    schema = signature(actor)
    schema.compile()
    return KnownActor(
        name=name,
        fingerprint=schema.fingerprint(),
        queue=actor.queue_name,
        options=dict(actor.options),
        schema=schema.json_schema(),
    )


def drain() -> None:
    """Claim nothing any more and hand back what was not started; what runs has until the time-out.

    May be called again: the time-out counts from the first call.
    """
    table = current_desk()
    if table is None or not table.holdings.close():
        return
    table.give_back(table.holdings.take_back())
    limit = table.process.settings.shutdown_timeout.total_seconds()
    overtime = threading.Timer(limit, _overtime, args=(table,))
    overtime.daemon = True
    overtime.start()


def stop() -> None:
    """Stop the threads and leave the ledger."""
    global _life
    found, _life = _life, None
    if found:
        found.end()
    close_delivery()
    process.close()


def _live(actors: list[KnownActor]) -> None:
    """Begin a life: the first one, or the next one after others have buried us."""
    global _life  # noqa: PLW0603 - see stop
    table = desk()
    owner = table.process
    owner.ledger.write(partial(know, incarnation=table.incarnation, actors=actors))
    owner.after_burial(partial(_live_again, actors))
    chores = (
        Reaper(owner).look,
        partial(table.hand_back_stale, STALE_S),
        table.mark_started,
        table.audit,
    )
    every_s = owner.settings.heartbeat.total_seconds()
    _life = _Life(owner, Chores(every_s, chores), Relay(owner))


def _live_again(actors: list[KnownActor]) -> None:
    """Begin anew, however long the ledger takes; Dramatiq's consumers come back by themselves."""
    global _life
    found, _life = _life, None
    if found is None:
        return
    found.end()
    close_delivery()
    while True:
        try:
            _live(actors)
        except PostludeError as error:
            log.warning("worker.not_born_again", error=str(error))
            threading.Event().wait(STALE_S)
        else:
            break
    log.warning("worker.born_again", incarnation=desk().incarnation)


def _overtime(table: Desk) -> None:
    """Hand back what still runs and end the process: a thread cannot be stopped, a process can."""
    log.warning("worker.overtime", handed_back=table.cut_short())
    process.close()
    os._exit(0)
