"""What a worker process runs beside Dramatiq's threads, and the order in which it starts and stops."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, cast

import structlog

from postlude import logs, process
from postlude.broker.desk import Desk, current_desk, desk, open_desk
from postlude.broker.intake import signature
from postlude.broker.registry import close_delivery
from postlude.broker.relay import Relay
from postlude.errors import PostludeError
from postlude.isolation.pool import close_pool, retire_idle
from postlude.isolation.run import check as check_isolated
from postlude.ledger.transitions.incarnation import KnownActor, know
from postlude.settings import settings
from postlude.worker import master, outgrown
from postlude.worker.cancellations import Cancellations
from postlude.worker.chores import Chores
from postlude.worker.reaper import Reaper
from postlude.worker.recycling import recycling
from postlude.worker.retention import SLOW_S, Retention
from postlude.worker.upkeep import Upkeep

if TYPE_CHECKING:
    from collections.abc import Callable

    from dramatiq import Broker, Worker

    from postlude.broker import PostludeBroker
    from postlude.process import Process

log = structlog.get_logger()

LOOK_S = 0.05
LAST_S = 10.0
"""How long the ledger may take to store what is settled when this process has to end."""
STALE_S = 1.0
"""A claimed task that has not started by then is handed back: another worker may be idle."""


@dataclass(slots=True)
class _Life:
    """The threads beside the worker during one incarnation."""

    owner: Process
    chores: Chores
    cancellations: Cancellations
    relay: Relay

    def end(self) -> None:
        """Stop the threads; what they have under way they finish."""
        self.relay.stop()
        self.cancellations.stop()
        self.chores.stop()


_life: _Life | None = None
_overtimer: threading.Timer | None = None
_asked = threading.Event()


def start(broker: Broker, worker: Worker) -> None:
    """Open the ledger as a worker, register, and start the threads; nothing is claimed until :func:`begin`.

    Raises PostludeError when the ledger does not open, or an actor cannot be called with JSON, or is
    isolated and cannot be run in a child process.
    """
    logs.configure(settings(), "worker")
    names = sorted(broker.get_declared_actors())
    actors = [known_actor(broker, name) for name in names]
    check_isolated([broker.get_actor(name) for name in names])
    process.open_as("worker", worker.consumer_whitelist or broker.get_declared_queues())
    open_desk(worker.worker_threads).holdings.suspend()
    _live(broker, actors)
    threading.Thread(target=_see_to, args=(worker,), name="thread-watch", daemon=True).start()


def begin(worker: Worker) -> None:
    """Claim from now on: all threads of this worker are there.

    Dramatiq's master waits for its children to be there, for 30 s if need be. A task that kills a worker
    as soon as it boots would make it wait for a child that is dead.
    """
    table = desk()
    table.holdings.resume()
    log.info("worker.ready", incarnation=table.incarnation, threads=worker.worker_threads)


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

    Somebody has asked this worker to stop. May be called again: the time-out counts from the first call.
    """
    _asked.set()
    if table := current_desk():
        _drain(table)


def leave() -> None:
    """Leave although a thread of this worker will never come back: drain, then end the process.

    Dramatiq's master, if this is a child of one, is told to start all its workers anew, once they
    have drained: it would take the end of one child for a reason to stop the others for good. Returns
    at once if this worker is leaving already.
    """
    table = current_desk()
    if table is None or not _drain(table):
        return
    log.error("worker.leaving", hint="one of its threads is stuck; a new worker takes its place")
    while table.holdings.ids():
        time.sleep(LOOK_S)
    _go()


def _see_to(worker: Worker) -> None:
    """Leave when one of Dramatiq's threads is dead: nothing starts it again, and tasks wait for it."""
    while not _asked.wait(STALE_S):
        if any(thread.ident and not thread.is_alive() for thread in worker.workers):
            log.error("worker.thread_died")
            leave()
            break


def stop() -> None:
    """Stop the threads and leave the ledger, once it has stored how the last task ended."""
    global _life
    if table := current_desk():
        table.unstored.wait()  # for no longer than there is time: then _overtime ends the process
    if _overtimer:
        _overtimer.cancel()
    found, _life = _life, None
    if found:
        found.end()
    close_delivery()
    close_pool()
    process.close()


def _drain(table: Desk) -> bool:
    """Begin to drain; False if that has begun already."""
    global _overtimer  # noqa: PLW0603 - there is one worker in a process
    if not table.holdings.close():
        return False
    table.give_back(table.holdings.take_back())
    limit = table.process.settings.shutdown_timeout.total_seconds()
    _overtimer = threading.Timer(limit, _overtime, args=(table,))
    _overtimer.daemon = True
    _overtimer.start()
    return True


def _live(broker: Broker, actors: list[KnownActor]) -> None:
    """Begin a life: the first one, or the next one after others have buried us."""
    global _life  # noqa: PLW0603 - see stop
    table = desk()
    owner = table.process
    owner.ledger.write(partial(know, incarnation=table.incarnation, actors=actors))
    owner.tend(Retention(owner).look, slow_s=SLOW_S)
    owner.after_burial(partial(_live_again, broker, actors))
    owner.when_outgrown(partial(outgrown.leave, drain))
    chores: tuple[Callable[[], object], ...] = (
        Reaper(owner).look,
        Upkeep(owner.ledger).look,
        partial(table.hand_back_stale, STALE_S),
        table.mark_started,
        table.audit,
        retire_idle,
        *recycling(table),
    )
    every_s = owner.settings.heartbeat.total_seconds()
    cancellations = Cancellations(table, cast("PostludeBroker", broker).interrupts)
    _life = _Life(owner, Chores(every_s, chores), cancellations, Relay(owner))


def _live_again(broker: Broker, actors: list[KnownActor]) -> None:
    """Begin anew, however long the ledger takes; Dramatiq's consumers come back by themselves."""
    global _life
    found, _life = _life, None
    if found is None:
        return
    found.end()
    close_delivery()
    while True:
        try:
            _live(broker, actors)
        except PostludeError as error:
            log.warning("worker.not_born_again", error=str(error))
            threading.Event().wait(STALE_S)
        else:
            break
    log.warning("worker.born_again", incarnation=desk().incarnation)
    if _asked.is_set():
        drain()


def _overtime(table: Desk) -> None:
    """Hand back what still runs and end the process: a thread cannot be stopped, a process can."""
    log.warning("worker.overtime", handed_back=table.cut_short())
    if lost := table.unstored.ids():
        log.error("worker.outcomes_lost", task_ids=lost, hint="they will run again; make room")
    _go()


def _go() -> None:
    """End this process, whatever its threads do; what is settled is stored if that can be done in time."""
    code = outgrown.exit_code() or (0 if _asked.is_set() else 1)
    last_resort = threading.Timer(LAST_S, os._exit, args=(code,))
    last_resort.daemon = True
    last_resort.start()
    close_pool()
    process.leave()
    if not _asked.is_set():
        master.renew()
    os._exit(code)
