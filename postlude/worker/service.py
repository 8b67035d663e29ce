"""What a worker process runs beside Dramatiq's threads, and the order in which it starts and stops."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import structlog

from postlude import logs, process
from postlude.broker.desk import Desk, desk, open_desk
from postlude.broker.intake import signature
from postlude.broker.registry import close_delivery
from postlude.broker.relay import Relay
from postlude.ledger.queries.tasks import held_by
from postlude.ledger.transitions.hand_back import forgotten
from postlude.ledger.transitions.incarnation import KnownActor, know
from postlude.ledger.transitions.mark import mark_started
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
class _Running:
    """The threads of one worker process."""

    chores: Chores
    relay: Relay


_running: _Running | None = None


def start(broker: Broker, worker: Worker) -> None:
    """Open the ledger as a worker, register, and start the threads.

    Raises PostludeError when the ledger does not open or an actor cannot be called with JSON.
    """
    global _running  # noqa: PLW0603 - there is one worker in a process
    logs.configure(settings(), "worker")
    actors = [known_actor(broker, name) for name in sorted(broker.get_declared_actors())]
    owner = process.open_as("worker", worker.consumer_whitelist or broker.get_declared_queues())
    table = open_desk(worker.worker_threads)
    owner.ledger.write(partial(know, incarnation=owner.incarnation.id, actors=actors))
    folder = owner.settings.data_dir / "run"
    reaper = Reaper(owner.ledger, lease=owner.settings.lease, folder=folder)
    audit = _Audit(owner, table)
    chores = (reaper.look, _hand_back_stale, _mark_started, audit.look)
    _running = _Running(
        chores=Chores(owner.settings.heartbeat.total_seconds(), chores), relay=Relay(owner)
    )
    log.info("worker.ready", incarnation=owner.incarnation.id, threads=worker.worker_threads)


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
    """Claim nothing any more and hand back what was not started; what runs has until the time-out."""
    table = desk()
    table.holdings.close()
    table.give_back(table.holdings.take_back())
    limit = table.process.settings.shutdown_timeout.total_seconds()
    overtime = threading.Timer(limit, _overtime, args=(table,))
    overtime.daemon = True
    overtime.start()


def stop() -> None:
    """Stop the threads and leave the ledger."""
    global _running
    found, _running = _running, None
    if found:
        found.relay.stop()
        found.chores.stop()
    close_delivery()
    process.close()


def _overtime(table: Desk) -> None:
    """Hand back what still runs and end the process: a thread cannot be stopped, a process can."""
    log.warning("worker.overtime", handed_back=table.cut_short())
    stop()
    os._exit(0)


def _hand_back_stale() -> None:
    table = desk()
    table.give_back(table.holdings.take_back(older_than=STALE_S))


def _mark_started() -> None:
    table = desk()
    for held in table.holdings.long_running():
        if held.started_at:
            mark = partial(mark_started, task=held.task, at=held.started_at)
            table.process.ledger.submit(mark, patient=True)


class _Audit:
    """Finds tasks that the ledger says this worker holds and that it does not (a lost claim reply)."""

    def __init__(self, owner: Process, table: Desk) -> None:
        self._owner = owner
        self._desk = table
        self._missed: set[str] = set()

    def look(self) -> None:
        """Hand back what was missing in two looks running, without a crash."""
        with self._owner.ledger.read() as connection:
            held = set(held_by(connection, self._desk.incarnation))
        missing = held - self._desk.holdings.ids()
        for task_id in missing & self._missed:
            log.warning("worker.forgot", task_id=task_id)
            self._owner.ledger.write(partial(forgotten, task=task_id, owner=self._desk.incarnation))
        self._missed = missing
