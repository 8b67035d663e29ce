"""The routes over a real ledger, without a worker: what is accepted stays where it can be seen."""

import os
import subprocess
import sys
import time
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dramatiq
import pytest
import uuid_utils
from served import api
from sqlalchemy import text

from actors.activity import write_log
from postlude import process
from postlude.errors import LedgerTooOld
from postlude.ledger.queries import tasks
from postlude.ledger.queries.incarnations import IncarnationView
from postlude.ledger.statement import Statement
from postlude.ledger.transitions import incarnation
from postlude.place import describe
from postlude.states import FINAL, Reason, State

ROOT = Path(__file__).parents[2]
UNKNOWN = "02ffffff-0000-7000-8000-000000000000"
ADD = "/v1/actors/send_notification/tasks"
GROW = "UPDATE postlude_meta SET compatible_from = :compatible_from"
PATIENCE_S = 20
ARGS = {"email": "ada@example.com", "message": "Hello"}


@pytest.fixture
def client(tmp_path, blank):
    with api(tmp_path, blank) as client:
        yield client


def followed(client, url):
    """Look at a task once its release, which no response waits for, has been stored."""
    deadline = time.monotonic() + 10
    while (task := client.get(url).json())["state"] == "accepted":
        assert time.monotonic() < deadline, task
    return task


def listed(client, **query):
    return client.get("/v1/tasks", params=query).json()["items"]


def until(condition):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def problem(response, status, code):
    assert (response.status_code, response.json()["code"]) == (status, code), response.text
    assert response.headers["content-type"] == "application/problem+json"
    return response.json()


# The notification


def test_a_notification_is_accepted_and_can_be_followed_by_its_id(client):
    response = client.post("/send-notification/ada@example.com?message=Hello")

    assert response.status_code == 202
    body = response.json()
    assert body["message"] == "Notification sent in the background"
    [task] = body["tasks"]
    assert (task["actor"], task["state"]) == ("send_notification", "accepted")
    assert response.headers["location"] == task["url"] == f"/v1/tasks/{task['id']}"
    found = followed(client, task["url"])
    assert (found["id"], found["state"]) == (task["id"], "queued")
    assert found["arguments"] == {"email": "ada@example.com", "message": "Hello"}


def test_a_dependency_adds_its_own_task_first(client):
    body = client.post("/send-notification/ada@example.com?q=orders").json()

    assert [task["actor"] for task in body["tasks"]] == ["write_log", "send_notification"]
    newest_first = listed(client)
    assert [task["id"] for task in reversed(newest_first)] == [t["id"] for t in body["tasks"]]
    log = followed(client, body["tasks"][0]["url"])
    assert log["arguments"] == {"message": "found query: orders"}


def test_the_location_is_that_of_the_notification(client):
    response = client.post("/send-notification/ada@example.com?q=orders")

    assert response.headers["location"] == response.json()["tasks"][1]["url"]


@pytest.mark.parametrize("query", ["", "?q=", "?message=some+notification"])
def test_message_and_query_may_be_left_out(client, query):
    [task] = client.post(f"/send-notification/ada@example.com{query}").json()["tasks"]

    assert followed(client, task["url"])["arguments"]["message"] == "some notification"


def test_addresses_and_texts_need_not_be_ascii(client):
    response = client.post(
        "/send-notification/jürgen@müller.example", params={"message": "Grüße 😀"}
    )

    task = followed(client, response.headers["location"])
    assert task["arguments"] == {"email": "jürgen@müller.example", "message": "Grüße 😀"}


def test_a_message_that_cannot_be_stored_takes_its_neighbour_with_it(client):
    response = client.post("/send-notification/ada@example.com?q=orders&message=a%00b")

    problem(response, 422, "bad-arguments")
    assert listed(client) == []


def test_tasks_carry_the_id_of_their_request(client):
    response = client.post(
        "/send-notification/ada@example.com", headers={"x-request-id": "order-4711"}
    )

    assert response.headers["x-request-id"] == "order-4711"
    assert followed(client, response.headers["location"])["correlation_id"] == "order-4711"


def test_the_activity_log_has_one_line_for_each_message(client, tmp_path):
    write_log("found query: Grüße")
    write_log("two\nlines\r\n")

    assert (tmp_path / "log.txt").read_bytes().decode() == "found query: Grüße\ntwo lines\n"


# Adding tasks by actor


def test_any_actor_can_be_triggered_by_name(client):
    response = client.post(ADD, json={"args": ARGS})

    assert response.status_code == 202
    added = response.json()
    assert added == {
        "id": added["id"],
        "actor": "send_notification",
        "queue": "default",
        "state": "accepted",
        "run_at": None,
        "url": f"/v1/tasks/{added['id']}",
    }
    assert response.headers["location"] == added["url"]
    assert followed(client, added["url"])["arguments"] == ARGS


@pytest.mark.parametrize("delay", ["1h", "60m", 3600, 3600.0])
def test_a_delay_is_a_span_or_a_number_of_seconds(client, delay):
    before = datetime.now(UTC)
    added = client.post(ADD, json={"args": ARGS, "options": {"delay": delay}}).json()

    task = followed(client, added["url"])
    assert task["state"] == "scheduled"
    run_at = datetime.fromisoformat(task["run_at"])
    assert datetime.fromisoformat(added["run_at"]) == run_at
    assert timedelta(0) <= run_at - before - timedelta(hours=1) + timedelta(milliseconds=1)
    assert run_at - before < timedelta(hours=1, minutes=1)
    assert task["place"].startswith("scheduled for")


def test_an_instant_may_have_any_offset(client):
    at = "2999-01-01T09:00:00+01:00"
    added = client.post(ADD, json={"args": ARGS, "options": {"run_at": at}}).json()

    task = followed(client, added["url"])
    assert task["run_at"] == added["run_at"] == "2999-01-01T08:00:00Z"


def test_an_instant_in_the_past_means_at_once(client):
    options = {"run_at": "2001-01-01T00:00:00Z"}
    added = client.post(ADD, json={"args": ARGS, "options": options}).json()

    assert followed(client, added["url"])["state"] == "queued"


def test_options_reach_the_task_in_the_units_of_dramatiq(client):
    options = {
        "priority": -3,
        "max_retries": 0,
        "min_backoff": "1s",
        "max_backoff": "1h",
        "time_limit": 0.5,
        "max_age": "1d",
    }
    added = client.post(ADD, json={"args": ARGS, "options": options}).json()

    task = followed(client, added["url"])
    assert task["priority"] == -3
    assert task["options"] == {
        "priority": -3,
        "max_retries": 0,
        "min_backoff": 1000,
        "max_backoff": 3_600_000,
        "time_limit": 500,
        "max_age": 86_400_000,
    }


def test_actors_show_what_they_are_called_with(client):
    listing = client.get("/v1/actors").json()

    names = [actor["name"] for actor in listing["items"]]
    assert names == sorted(names)
    assert {"send_notification", "write_log"} <= set(names)
    assert listing["next"] is None
    actor = client.get("/v1/actors/send_notification").json()
    assert actor in listing["items"]
    assert actor["schema"]["required"] == ["email", "message"]
    assert (actor["queue"], actor["workers"], actor["loaded"]) == ("default", 0, True)
    assert actor["options"]["max_retries"] == 30


def test_an_actor_that_only_workers_know_is_shown_but_not_triggered(client):
    foreign = incarnation.KnownActor(
        name="elsewhere", fingerprint="f" * 16, queue="other", options={}, schema={"type": "object"}
    )
    with_worker(knows=[foreign])

    actor = client.get("/v1/actors/elsewhere").json()
    response = client.post("/v1/actors/elsewhere/tasks", json={})

    assert (actor["queue"], actor["workers"], actor["loaded"]) == ("other", 1, False)
    assert "POSTLUDE_ACTORS" in problem(response, 409, "actor-not-loaded")["detail"]


# Looking at tasks


def test_pages_follow_each_other_without_a_gap(client):
    sent = [client.post("/send-notification/ada@example.com").json() for _ in range(5)]
    ids = [body["tasks"][0]["id"] for body in sent]

    seen, path, pages = [], "/v1/tasks?limit=2&actor=send_notification", 0
    while path:
        response = client.get(path)
        client.post("/send-notification/bob@example.com")
        seen += [task["id"] for task in response.json()["items"]]
        assert (response.json()["next"] is None) == ("next" not in response.links)
        path = response.links.get("next", {}).get("url")
        pages += 1

    assert seen == ids[::-1]
    assert pages == 3


def test_tasks_are_filtered_by_state_actor_and_queue(client):
    client.post("/send-notification/ada@example.com?q=orders")
    client.post(ADD, json={"args": ARGS, "options": {"delay": "1h"}})
    for task in listed(client):
        followed(client, task["url"])

    assert len(listed(client)) == 3
    assert [t["actor"] for t in listed(client, actor="write_log")] == ["write_log"]
    assert [t["state"] for t in listed(client, state="scheduled")] == ["scheduled"]
    assert len(listed(client, queue="default", state="queued")) == 2
    assert listed(client, queue="other") == []
    assert listed(client, state="scheduled", actor="write_log") == []


def test_a_task_says_that_no_worker_knows_its_actor(client):
    location = client.post("/send-notification/ada@example.com").headers["location"]

    assert "no live worker knows actor 'send_notification'" in followed(client, location)["place"]


def test_a_task_says_that_it_waits_for_a_free_worker(client):
    ours = incarnation.KnownActor(
        name="send_notification", fingerprint="f" * 16, queue="default", options={}, schema={}
    )
    with_worker(knows=[ours])
    location = client.post("/send-notification/ada@example.com").headers["location"]

    assert followed(client, location)["place"] == "waiting for a free worker"
    assert client.get("/v1/actors/send_notification").json()["workers"] == 1


NOW = datetime(2026, 11, 24, 9, tzinfo=UTC)
HOLDER = IncarnationView("w1", "worker", "host1", 42, "1", ("default",), 7, NOW, NOW)
TASK = tasks.TaskView(
    seq=1,
    id=UNKNOWN,
    actor="tidy",
    queue="default",
    state=State.QUEUED,
    reason=None,
    arguments={},
    options={},
    priority=0,
    attempts=0,
    retries=0,
    crashes=0,
    result=None,
    progress=None,
    holder=None,
    cancel_requested=False,
    correlation_id=None,
    created_at=NOW,
    run_at=None,
    claimed_at=None,
    started_at=None,
    finished_at=None,
)
RUNNING = replace(TASK, state=State.RUNNING, holder="w1")


@pytest.mark.parametrize(
    ("task", "workers", "holder", "said"),
    [
        (replace(TASK, state=State.ACCEPTED), 1, None, "waits for the response"),
        (
            replace(TASK, state=State.CANCELLED, reason=Reason.UPSTREAM_FAILED, waits_for="a"),
            1,
            None,
            "cancelled: upstream-failed; see task a",
        ),
        (
            replace(TASK, state=State.FAILED, reason=Reason.BAD_ARGUMENTS, waits_for="a"),
            1,
            None,
            "failed for good: bad-arguments; see task a",
        ),
        (replace(TASK, attempts=2), 1, None, "waiting for a free worker; 2 attempts so far"),
        (TASK, 0, None, "no live worker knows actor 'tidy'"),
        (RUNNING, 1, HOLDER, "held by worker 42 on host1, not started"),
        (replace(RUNNING, started_at=NOW), 1, HOLDER, "running on worker 42 on host1 since 2026"),
        (RUNNING, 1, None, "its worker w1 is gone"),
        (replace(TASK, state=State.FAILED, reason=Reason.EXPIRED), 1, None, "expired"),
        (replace(TASK, state=State.SUCCEEDED), 0, None, "finished"),
        (
            replace(TASK, state=State.SCHEDULED, run_at=NOW + timedelta(hours=1)),
            0,
            None,
            "scheduled for 2026-11-24T10:00:00+00:00",
        ),
        (
            replace(TASK, state=State.SCHEDULED, run_at=NOW + timedelta(1), retries=1, attempts=1),
            1,
            None,
            "to be tried again at 2026-11-25T09:00:00+00:00; 1 attempt so far",
        ),
        (replace(TASK, state=State.SCHEDULED, run_at=NOW), 1, None, "waiting for a free worker"),
        (replace(TASK, state=State.SCHEDULED, run_at=NOW), 0, None, "no live worker"),
    ],
)
def test_every_state_says_what_it_waits_for(task, workers, holder, said):
    assert said in describe(task, workers=workers, consumers=workers, holder=holder, now=NOW)


@pytest.mark.parametrize("state", [s for s in State if s not in FINAL])
def test_every_state_that_is_not_final_has_words_of_its_own(state):
    task = replace(TASK, state=state)

    assert describe(task, workers=1, consumers=1, holder=HOLDER, now=NOW)


@pytest.mark.parametrize(
    ("upstream", "said"),
    [
        (RUNNING, f"waits for task {UNKNOWN} (tidy, running), the step before it"),
        (1, "waits for group g, of which 1 task has not ended"),
        (3, "waits for group g, of which 3 tasks have not ended"),
    ],
)
def test_a_waiting_task_says_what_it_waits_for(upstream, said):
    task = replace(TASK, state=State.WAITING, waits_for="g")

    assert said in describe(task, workers=1, consumers=1, holder=None, now=NOW, upstream=upstream)


def test_steps_and_callbacks_are_listed_and_say_what_they_wait_for(client):
    pipe = write_log.message("one") | write_log.message_with_options(
        args=("two",), pipe_ignore=True
    )
    together = dramatiq.group([pipe, write_log.message("beside")])
    together.add_completion_callback(write_log.message("complete"))
    together.run()

    callback, step = client.get("/v1/tasks", params={"state": "waiting"}).json()["items"]

    first, second = (message.message_id for message in pipe.messages)
    seen = followed(client, step["url"])
    assert (seen["id"], seen["waits_for"]) == (second, first)
    assert seen["place"] == (
        f"waits for task {first} (write_log, queued), the step before it in its pipeline"
    )
    assert uuid.UUID(seen["group_id"])
    told = followed(client, callback["url"])
    assert (told["waits_for"], told["group_id"]) == (seen["group_id"], None)
    assert told["place"] == f"waits for group {seen['group_id']}, of which 2 tasks have not ended"


def test_a_queue_that_no_worker_takes_from_is_named():
    said = describe(TASK, workers=1, consumers=0, holder=None, now=NOW)

    assert "no live worker takes from queue 'default'" in said


# Unique keys


@pytest.mark.parametrize("held", [None, "unfinished", "queued", "10m", 600])
def test_a_task_whose_key_another_one_has_is_shown_as_its_duplicate(client, held):
    options = {"unique_key": "order-4711"} | ({} if held is None else {"unique_for": held})
    first, second = (
        client.post(ADD, json={"args": ARGS, "options": options}).json() for _ in range(2)
    )

    assert followed(client, first["url"])["state"] == "queued"
    found = client.get(second["url"]).json()
    assert (found["state"], found["reason"]) == ("cancelled", "duplicate")
    assert found["duplicate_of"] == first["id"]
    assert found["place"] == f"cancelled: task {first['id']} had its unique key when it was added"
    stored = {None: "unfinished", "10m": 600_000, 600: 600_000}.get(held, held)
    assert found["options"] == {"unique_key": "order-4711", "unique_for": stored}
    assert [(item["id"], item["duplicate_of"]) for item in listed(client)] == [
        (second["id"], first["id"]),
        (first["id"], None),
    ]


def test_the_same_key_of_another_actor_is_another_key(client):
    other = "/v1/actors/write_log/tasks"
    for path, args in ((ADD, ARGS), (other, {"message": "Hello"})):
        client.post(path, json={"args": args, "options": {"unique_key": "k"}})

    assert [item["reason"] for item in listed(client)] == [None, None]


# Health, start and outage


def test_a_process_with_a_good_ledger_is_alive_and_ready(client):
    assert client.get("/livez").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ok"}


@pytest.mark.parametrize(
    ("harm", "check"),
    [
        ("UPDATE postlude_incarnations SET beat_at = beat_at - 20000000000", "heartbeat: the last"),
        ("UPDATE postlude_incarnations SET ended_at = 1", "heartbeat: this process is not"),
        ("UPDATE postlude_meta SET version = 0", "schema: it is 0"),
        ("DROP TABLE postlude_meta", "ledger: "),
    ],
)
def test_a_process_that_cannot_work_says_which_check_failed_and_stays_alive(
    tmp_path, blank, harm, check
):
    with api(tmp_path, blank, HEARTBEAT="1h", LEASE="3h") as client:
        process.current().ledger.write(lambda tx: tx.run(Statement(text(harm))))

        response = client.get("/readyz")

        assert check in problem(response, 503, "not-ready")["detail"]
        assert response.headers["retry-after"]
        assert client.get("/livez").status_code == 200


def test_a_process_that_the_ledger_has_outgrown_refuses_what_is_new_until_it_fits_again(
    tmp_path, blank
):
    with api(tmp_path, blank, HEARTBEAT="20ms") as client:
        ledger = process.current().ledger
        old = client.post("/send-notification/ada@example.com").headers["location"]
        ledger.write(lambda tx: tx.run(Statement(text(GROW)), compatible_from=99))
        until(lambda: ledger.outgrown)

        for refused in (
            client.get("/readyz"),
            client.post("/send-notification/ada@example.com"),
            client.post(f"{old}/cancel"),
            client.post(f"{old}/retry"),
        ):
            told = problem(refused, 503, "ledger-too-new")
            assert "needs code of schema version 99" in told["detail"]
        assert client.get("/livez").status_code == 200
        assert [task["url"] for task in client.get("/v1/tasks").json()["items"]] == [old]
        ledger.write(lambda tx: tx.run(Statement(text(GROW)), compatible_from=1))
        until(lambda: not ledger.outgrown)
        assert client.get("/readyz").status_code == 200
        assert client.post("/send-notification/ada@example.com").status_code == 202


def test_a_ledger_that_cannot_be_written_is_a_503_and_nothing_is_accepted(tmp_path, blank):
    with api(tmp_path, blank, WRITE_TIMEOUT="200ms") as client:
        connection = process.current().ledger.connect()
        with connection.transaction():
            response = client.post("/send-notification/ada@example.com")
            reading = client.get("/v1/tasks")
        connection.close()

        assert response.status_code == 503
        assert response.headers["content-type"] == "application/problem+json"
        assert response.headers["retry-after"]
        assert response.headers["x-request-id"]
        assert response.json()["code"] in {"ledger-busy", "accept-unknown"}
        assert reading.json()["items"] == []


def test_a_ledger_without_tables_stops_the_process_with_what_to_do(tmp_path):
    with pytest.raises(LedgerTooOld, match="postlude migrate"), api(tmp_path):
        pass


def test_a_ledger_without_the_tables_of_a_use_case_stops_the_process_too(tmp_path, blank):
    with api(tmp_path, blank):
        for name in ("files", "event_rollups"):
            drop = Statement(text(f"DROP TABLE {name}"))
            process.current().ledger.write(lambda tx, drop=drop: tx.run(drop))

    words = "no tables event_rollups, files, which .*: run `postlude migrate`"
    with pytest.raises(LedgerTooOld, match=words), api(tmp_path):
        pass


def test_the_server_says_so_in_one_line(tmp_path):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("POSTLUDE_")}
    done = subprocess.run(
        [sys.executable, "-m", "uvicorn", "api:app", "--port", "0"],
        cwd=ROOT,
        env=environment | {"POSTLUDE_DATA_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode != 0
    assert "postlude migrate" in done.stderr
    assert "Traceback" not in done.stderr


def test_importing_the_application_opens_nothing(tmp_path):
    code = (
        "import threading; from api import app; print(type(app).__name__, threading.active_count())"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        env=os.environ | {"POSTLUDE_DATA_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert done.stdout.split() == ["Api", "1"]
    assert list(tmp_path.iterdir()) == []


def with_worker(knows):
    """Put a live worker on record that knows these actors."""
    now, life = datetime.now(UTC), str(uuid_utils.uuid7())

    def write(tx):
        incarnation.appear(
            tx, life, kind="worker", host="h", pid=1, version="1", queues=["default"], now=now
        )
        incarnation.know(tx, life, knows)

    process.current().ledger.write(write)
