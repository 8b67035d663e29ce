"""Holes of Dramatiq on RabbitMQ; ours is played on its ledger."""

from __future__ import annotations

import os
import signal
from uuid import uuid4

import pytest
from dramatiq.brokers.rabbitmq import DEAD_MESSAGE_TTL, RabbitmqBroker

from postlude.broker.rabbitmq.connection import BLOCKED_S, connect
from postlude.settings import load

pytestmark = pytest.mark.usefixtures("rabbit")

AMQP_URL = os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2F")
SCENES = "scenes_rabbitmq.py"
WEEK_MS = 7 * 86_400_000


def test_long_delays_stand_before_short_ones(theatre):
    stock, ours = theatre.both(
        SCENES,
        "rabbitmq",
        "long_delays_stand_before_a_short_one",
        dramatiq_delay_queue_prefetch="3",
    )

    assert stock == {"waited_for_the_long_ones": True}
    assert ours == {"waited_for_the_long_ones": False}


def test_what_is_delayed_waits_in_a_workers_memory(theatre):
    stock, ours = theatre.both(SCENES, "rabbitmq", "many_tasks_are_delayed")

    assert stock == {"in_the_workers_memory": 50}
    assert ours == {"in_the_workers_memory": 0}


def test_a_dead_letter_vanishes(theatre):
    stock, ours = theatre.both(
        SCENES, "rabbitmq", "a_dead_letter_grows_old", dramatiq_dead_message_ttl="300"
    )

    assert DEAD_MESSAGE_TTL == WEEK_MS
    assert stock == {"at_first": 1, "later": 0}
    assert ours == {"at_first": 1, "later": 1}


def test_threads_that_have_ended_leave_their_connections(theatre):
    stock, ours = theatre.both(SCENES, "rabbitmq", "threads_send_and_end")

    assert stock == {"connections_more": 10}
    assert ours == {"connections_more": 0}


def test_a_task_that_kills_its_worker_is_never_given_up(theatre):
    queue, rounds = f"hole{uuid4()}", 4
    for number in range(rounds):
        worker = theatre.play(
            SCENES, "rabbitmq", "a_task_kills_its_worker", HOLE_QUEUE=queue, HOLE_ROUND=str(number)
        )
        assert worker.wait(30) == -signal.SIGKILL

    assert theatre.one(SCENES, "rabbitmq", "the_queue_of_those_killed", HOLE_QUEUE=queue) == {
        "left": 1
    }


def test_an_old_message_is_acknowledged_in_place_of_another(theatre):
    stock = theatre.one(SCENES, "rabbitmq", "an_old_message_is_acknowledged_after_a_reconnect")

    assert stock == {"in_hand": ["A", "A", "B"], "left": ["A"]}


def test_what_nobody_keeps_is_sent_without_an_error(theatre):
    stock = theatre.one(SCENES, "rabbitmq", "the_queue_has_vanished")

    assert stock == {"left": []}


def test_a_publish_to_a_blocked_rabbitmq_hangs_for_ever(tmp_path):
    """While RabbitMQ has a memory or disk alarm; here only what bounds the waiting is looked at."""
    stock = RabbitmqBroker(url=AMQP_URL)
    ours = connect(load(data_dir=tmp_path, broker_url=AMQP_URL))

    try:
        assert stock.parameters.blocked_connection_timeout is None
        assert ours._impl.params.blocked_connection_timeout == BLOCKED_S
    finally:
        ours.close()
