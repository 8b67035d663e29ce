"""Holes of Dramatiq that any of its brokers shows: played with StubBroker and with ours."""

from __future__ import annotations

import dramatiq
from stages import QUEUE, play, until


class Hook(dramatiq.Middleware):
    """A middleware of somebody's own."""

    def __init__(self, *, before=None, after=None) -> None:
        self.before_process_message = before or super().before_process_message
        self.after_process_message = after or super().after_process_message


def a_hook_breaks_before_the_actor(stage):
    """Its author meant to keep the actor from running twice; the cache it asks is away."""
    ran = []
    actor = dramatiq.actor(ran.append, actor_name="note", queue_name=QUEUE, max_retries=0)

    def ask(broker, message):
        raise ConnectionError(message.message_id)

    stage.broker.add_middleware(Hook(before=ask))
    with stage.working():
        actor.send("ran")
        stage.settle()
    return {"ran": bool(ran), "dead_letters": stage.dead_letters()}


def a_retry_cannot_be_enqueued(stage):
    """A middleware keeps its span among the options, which then are no JSON any more."""
    runs = []

    def trace(broker, message):
        message.options["span"] = object()

    def fail_once():
        runs.append(1)
        if len(runs) == 1:
            raise OSError

    actor = dramatiq.actor(fail_once, queue_name=QUEUE, min_backoff=10, max_backoff=20)
    stage.broker.add_middleware(Hook(before=trace))
    with stage.working():
        actor.send()
        stage.settle()
    return {"runs": len(runs), "dead_letters": stage.dead_letters()}


def a_time_limit_strikes_in_a_hook(stage):
    """The actor has failed in time; the time limit passes while a hook tells somebody."""
    struck = []

    def fail():
        raise OSError

    def tell(broker, message, *, result=None, exception=None):
        try:
            until(lambda: False, or_after_s=2.5)
        except BaseException:
            struck.append(1)
            raise

    actor = dramatiq.actor(fail, queue_name=QUEUE, max_retries=0, time_limit=50)
    stage.broker.add_middleware(Hook(after=tell))
    with stage.working() as worker:
        (thread,) = worker.workers
        actor.send()
        until(lambda: stage.dead_letters() or not thread.is_alive())
        return {
            "struck": bool(struck),
            "thread_alive": thread.is_alive(),
            "dead_letters": stage.dead_letters(),
        }


def a_worker_does_not_know_the_actor_yet(stage):
    """The web process is deployed, and sends, before the worker is."""
    ran = []
    newcomer = dramatiq.actor(lambda: ran.append("new"), actor_name="newcomer", queue_name=QUEUE)
    old = dramatiq.actor(lambda: ran.append("old"), actor_name="old", queue_name=QUEUE)
    newcomer.send()
    del stage.broker.actors["newcomer"]
    with stage.working():
        old.send()
        until(lambda: ran)
    stage.broker.declare_actor(newcomer)
    with stage.working():
        stage.settle()
    return {"ran": ran, "dead_letters": stage.dead_letters()}


if __name__ == "__main__":
    play(vars())
