"""``on_success`` and ``on_failure``: told by whoever ends the task, in the transaction that ends it."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import closing
from functools import partial

import dramatiq
import pytest
import structlog

from postlude import BackgroundTasks
from postlude.broker import broker
from postlude.ledger import clock
from postlude.ledger.task import NewTask
from postlude.ledger.transitions import accept, claim, incarnation
from postlude.states import Reason, State
from postlude.worker.incarnation import lock_path
from postlude.worker.reaper import Reaper

QUEUE = "compositions"


@dramatiq.actor(actor_name="callbacks-news", queue_name=QUEUE)
def news(message: dict, what: object) -> None:
    """Notes what it was told in its own arguments."""


@dramatiq.actor(actor_name="callbacks-work", queue_name=QUEUE, max_retries=1, min_backoff=0)
def work(x: int = 0) -> int:
    if x < 0:
        raise ValueError(x)
    return x


@dramatiq.actor(actor_name="callbacks-declared", queue_name=QUEUE, on_failure="callbacks-news")
def declared(x: int = 0) -> None:
    """Says by itself who is to be told."""


@dramatiq.actor(actor_name="callbacks-undeclared", queue_name=QUEUE, on_failure="callbacks-nobody")
def undeclared() -> None:
    """Names an actor that there is not."""


def told(site) -> list[dict]:
    """Return the arguments of all callbacks, in order."""
    return [view.arguments for view in site.views() if view.actor == "callbacks-news"]


def put(site, actor: str = "callbacks-work", arguments: str = "{}", options: str = "{}") -> str:
    """Store a task that no door would let in."""
    task = NewTask(str(uuid.uuid4()), actor, QUEUE, arguments, options, 0, None, clock.now())
    site.owner.ledger.write(partial(accept.enqueue, task=task, now=clock.now()))
    return task.id


@pytest.mark.parametrize("how", ["add_task_with_options", "send_with_options"])
def test_success_is_told_with_the_message_and_its_result(site, how):
    if how == "send_with_options":
        id_ = work.send_with_options(args=(5,), on_success=news).message_id
    else:
        tasks = BackgroundTasks()
        id_ = tasks.add_task_with_options(work, args=(5,), on_success=news).id
        asyncio.run(tasks())
    site.settle()
    site.work()

    (found,) = told(site)
    assert (found["message"]["message_id"], found["what"]) == (id_, 5)
    assert found["message"]["kwargs"] == {"x": 5}


def test_every_failed_attempt_is_told_and_counted(site):
    tasks = BackgroundTasks()
    tasks.add_task_with_options(
        work, args=(-1,), on_failure=news, on_retry_exhausted=news.actor_name
    )
    asyncio.run(tasks())
    site.settle()
    site.work()

    retries = [found["message"]["options"]["retries"] for found in told(site)]
    assert retries == [1, 2, 2]
    assert [found["what"] for found in told(site)] == [
        {"type": "ValueError", "message": "-1"},
        {"type": "ValueError", "message": "-1"},
        {"retries": 1, "max_retries": 1},
    ]


def test_a_task_that_is_too_old_is_told(site):
    message = work.send_with_options(args=(1,), max_age=0.001, on_failure=news)
    site.work()

    (found,) = told(site)
    assert site.view(message).reason is Reason.EXPIRED
    assert found["what"] == {"type": "SkipMessage", "message": "it was not run: expired"}
    assert found["message"]["options"]["retries"] == 0


@pytest.mark.parametrize(
    ("actor", "options"),
    [("callbacks-work", '{"on_failure":"callbacks-news"}'), ("callbacks-declared", "{}")],
)
def test_arguments_that_no_longer_fit_are_told_as_they_were_stored(site, actor, options):
    id_ = put(site, actor, '{"x":"word"}', options)
    site.work()
    site.settle()

    (found,) = told(site)
    assert (found["message"]["message_id"], found["message"]["kwargs"]) == (id_, {"x": "word"})
    assert found["what"]["type"] == "BadArguments"
    assert "'x'" in found["what"]["message"]


@pytest.fixture
def impatient(monkeypatch):
    """Nobody waits for a worker that knows the actor."""
    monkeypatch.setenv("POSTLUDE_UNKNOWN_ACTOR_GRACE", "0s")


def test_an_actor_that_the_worker_does_not_know_is_told(impatient, site):
    """As when RabbitMQ brings it: the ledger's own claims leave it to a worker that knows it."""
    put(site, "callbacks-unknown", '{"x":1}', '{"on_failure":"callbacks-news"}')
    taking = partial(
        claim.claim,
        queue=QUEUE,
        actors=["callbacks-unknown"],
        owner=site.owner.incarnation.id,
        token="t",
        now=clock.now(),
        limit=1,
    )
    site.consumer._desk.claim(broker(), taking)
    site.work()

    (found,) = told(site)
    assert found["what"]["type"] == "UnknownActor"
    assert site.views()[0].reason is Reason.UNKNOWN_ACTOR


def doomed(site, *ids: str) -> None:
    """Let a worker die that holds these tasks alone, their budget of deaths being used up."""
    born = {"kind": "worker", "host": "h", "pid": 1, "version": "1", "queues": []}
    site.owner.ledger.write(
        partial(incarnation.appear, incarnation="doomed", now=clock.now(), **born)
    )
    marks = [("token", "t"), ("owner", "doomed"), ("state", "running")]
    with closing(site.owner.ledger.connect()) as connection, connection.transaction() as tx:
        for id_ in ids:
            columns = ", ".join(f"{name} = '{value}'" for name, value in marks)
            tx._cursor.execute(
                f"UPDATE postlude_tasks SET {columns}, suspect = 3, crashes = 2,"
                f" claimed_at = created_at, started_at = created_at WHERE id = '{id_}'"
            )
    lock_path(site.owner.settings.data_dir / "run", "doomed").touch()


@pytest.mark.parametrize("reapers", [1, 2])
def test_a_quarantine_is_told_once_however_many_reapers_there_are(site, reapers):
    by_message = work.send_with_options(args=(1,), on_failure=news).message_id
    by_actor = declared.send(2).message_id
    silent = work.send(3).message_id
    doomed(site, by_message, by_actor, silent)

    found = sum(Reaper(site.owner).look() for _ in range(reapers))

    assert found == 1
    assert {site.views()[n].reason for n in range(3)} == {Reason.CRASH_LOOP}
    assert sorted(news["message"]["message_id"] for news in told(site)) == sorted(
        [by_message, by_actor]
    )
    assert {news["what"]["type"] for news in told(site)} == {"WorkerDied"}
    assert sorted(news["message"]["kwargs"]["x"] for news in told(site)) == [1, 2]


def test_a_callback_that_cannot_be_made_does_not_keep_a_task_from_ending(site):
    message = undeclared.send()
    doomed(site, message.message_id)

    with structlog.testing.capture_logs() as logs:
        Reaper(site.owner).look()

    assert site.view(message).state is State.FAILED
    (line,) = [line for line in logs if line["event"] == "task.not_told"]
    assert "callbacks-nobody" in line["error"]


def test_a_cancelled_task_is_not_told(site):
    work.send_with_options(args=(1,), on_failure=news, on_success=news)

    broker().flush(QUEUE)

    assert told(site) == []
