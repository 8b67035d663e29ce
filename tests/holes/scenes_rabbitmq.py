"""Holes of Dramatiq on RabbitMQ: played there, and with our broker over its ledger."""

from __future__ import annotations

import os
import signal
import threading
import time

import dramatiq
from stages import QUEUE, play, until

HOUR_MS = 3_600_000
LONG_MS, SHORT_MS = 3_000, 100


def long_delays_stand_before_a_short_one(stage):
    """A worker fetches three delayed messages (dramatiq_delay_queue_prefetch) and sees no others."""
    started = []
    actor = dramatiq.actor(
        lambda: started.append(time.monotonic()), actor_name="a", queue_name=QUEUE
    )
    for _ in range(3):
        actor.send_with_options(delay=LONG_MS)
    actor.send_with_options(delay=SHORT_MS)
    sent = time.monotonic()
    with stage.working():
        until(lambda: started)
    return {"waited_for_the_long_ones": started[0] - sent > LONG_MS / 2000}


def many_tasks_are_delayed(stage):
    """They wait for an hour: where?"""
    actor = dramatiq.actor(lambda: None, actor_name="a", queue_name=QUEUE)
    for _ in range(50):
        actor.send_with_options(delay=HOUR_MS)
    with stage.working() as worker:
        actor.send()

        def in_memory():
            return sum(thread.delay_queue.qsize() for thread in worker.consumers.values())

        until(lambda: in_memory() == 50, or_after_s=2)
        return {"in_the_workers_memory": in_memory()}


def a_dead_letter_grows_old(stage):
    """Its seven days are a moment here (dramatiq_dead_message_ttl); ours is asked after a year."""

    def fail():
        raise OSError

    actor = dramatiq.actor(fail, queue_name=QUEUE, max_retries=0)
    with stage.working():
        actor.send()
        found = until(stage.dead_letters)
    stage.grow_old()
    return {"at_first": found, "later": stage.dead_letters()}


def an_old_message_is_acknowledged_after_a_reconnect(stage):
    """A worker's connection breaks while it runs A, which another worker is given.

    On its new connection the first one gets B. Then A ends; then the worker dies, B unfinished.
    """
    actor = dramatiq.actor(lambda _word: None, actor_name="a", queue_name=QUEUE)
    for word in "AB":
        actor.send(word)
    broken = stage.broker.consume(QUEUE, prefetch=1, timeout=5000)
    a = next(broken)
    broken.close()
    other = stage.broker.consume(QUEUE, prefetch=1, timeout=5000)
    again = next(other)
    anew = stage.broker.consume(QUEUE, prefetch=1, timeout=5000)
    b = next(anew)
    anew.ack(a)
    anew.close()
    other.close()
    return {"in_hand": [*a.args, *again.args, *b.args], "left": stage.left()}


def threads_send_and_end(stage):
    """As those of a web server do, which retires them when they are idle."""
    actor = dramatiq.actor(lambda: None, actor_name="a", queue_name=QUEUE)
    actor.send()
    before = stage.connections()
    for _ in range(10):
        thread = threading.Thread(target=actor.send)
        thread.start()
        thread.join()
    return {"connections_more": stage.connections() - before}


def the_queue_has_vanished(stage):
    """Somebody has deleted it. A task is sent, and nothing is said."""
    actor = dramatiq.actor(lambda _word: None, actor_name="a", queue_name=QUEUE)
    actor.send("A")
    stage.broker.channel.queue_delete(QUEUE)
    actor.send("B")
    stage.broker.channel.queue_declare(QUEUE, durable=True, arguments=stage.arguments())
    return {"left": stage.left()}


def a_task_kills_its_worker(stage):
    """It may be retried once. Played by one worker after the other, on the same queue."""
    actor = dramatiq.actor(
        lambda: os.kill(os.getpid(), signal.SIGKILL),
        actor_name="kill",
        queue_name=QUEUE,
        max_retries=1,
    )
    if os.environ["HOLE_ROUND"] == "0":
        actor.send()
    with stage.working():
        threading.Event().wait(20)


def the_queue_of_those_killed(stage):
    """What is left in it after all that."""
    stage.broker.channel.queue_declare(QUEUE, passive=True)
    return {"left": len(stage.left())}


if __name__ == "__main__":
    play(vars())
