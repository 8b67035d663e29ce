"""What must hold after a crash and a restart, read from the ledger and the witness (G1 to G7)."""

from __future__ import annotations

import mailbox
from collections import Counter
from typing import TYPE_CHECKING, Any

from life import ask_again, scheduling, ticked, until, witnessed, working
from walk_actors import folder

from postlude import process
from postlude.states import FINAL

if TYPE_CHECKING:
    from collections.abc import Iterator

OPEN = "state NOT IN ('succeeded', 'failed', 'cancelled')"
EXCUSED = {"request-failed", "by-request", "duplicate"}
"""Why a task may be cancelled in the walk."""
EXPECTED = {
    "walk_hopeless": {"failed"},
    "walk_slow": {"succeeded", "cancelled"},
}


def recover() -> None:
    """Start everything anew and wait until nothing is left to do."""
    (folder() / "over").touch()
    with working():
        ask_again()
        with scheduling():
            until(ticked)
        # Delayed by an hour: only the cancelled one would ever come to an end here.
        until(lambda: not _rows(f"{OPEN} AND (run_at IS NULL OR run_at < :soon)"))


def verdict() -> list[str]:
    """Return every promise that was broken."""
    tasks = {row["id"]: row for row in _rows("1 = 1")}
    faults = [
        *_accepted_means_finished(tasks),
        *_refused_means_never(tasks),
        *_finished_stays_finished(tasks),
        *_nobody_is_blamed(tasks),
        *_ticks(tasks),
        *_mails(tasks),
        *_files(tasks),
        *_requests(tasks),
        *_once(tasks),
        *_orders(tasks),
    ]
    return sorted(set(faults))


def _rows(where: str) -> list[dict[str, Any]]:
    from sqlalchemy import text

    from postlude.ledger import clock

    query = text(f"SELECT * FROM postlude_tasks WHERE {where}")
    soon = clock.to_micros(clock.now()) + 600_000_000
    with process.current().ledger.read() as connection:
        values = {"soon": soon} if ":soon" in where else {}
        return [dict(row) for row in connection.execute(query, values).mappings()]


def _accepted_means_finished(tasks: dict[str, Any]) -> Iterator[str]:
    """G1, G7: whoever was promised finds the task, and it has come to the end that it should."""
    promised = [id_ for answer in witnessed("answered") for id_ in answer["ids"]]
    for id_ in promised:
        if id_ not in tasks:
            yield f"G1: {id_} was promised and is not there"
    for id_, task in tasks.items():
        wanted = EXPECTED.get(task["actor"], {"succeeded"})
        if _is_far_off(task) or task["reason"] in EXCUSED:
            continue
        if task["state"] not in wanted:
            yield f"G1: {task['actor']} {id_} is {task['state']} ({task['reason']})"


def _refused_means_never(tasks: dict[str, Any]) -> Iterator[str]:
    """G2: what a failed request had added never runs."""
    refused = {answer["id"] for answer in witnessed("refused")}
    for run in witnessed("ran"):
        if run["id"] in refused or tasks[run["id"]]["reason"] == "request-failed":
            yield f"G2: {run['actor']} {run['id']} was refused and ran"


def _finished_stays_finished(tasks: dict[str, Any]) -> Iterator[str]:
    """G4: as many runs as attempts, and no attempt after one that succeeded."""
    runs = Counter(run["id"] for run in witnessed("ran"))
    for id_, count in runs.items():
        if count > tasks[id_]["attempts"]:
            yield f"G4: {tasks[id_]['actor']} {id_} ran {count} times in {tasks[id_]['attempts']} attempts"
    with process.current().ledger.read() as connection:
        late = connection.exec_driver_sql(
            "SELECT a.task FROM postlude_attempts a JOIN postlude_attempts b ON a.task = b.task"
            " AND b.number > a.number WHERE a.outcome = 'succeeded'"
        ).fetchall()
    for row in late:
        yield f"G4: task {row[0]} was attempted again after it had succeeded"


def _nobody_is_blamed(tasks: dict[str, Any]) -> Iterator[str]:
    """G5: nothing here kills its worker, and this one died once."""
    for id_, task in tasks.items():
        if task["crashes"] > 1 or task["reason"] == "crash-loop":
            yield f"G5: {task['actor']} {id_} is blamed for {task['crashes']} deaths"


def _ticks(tasks: dict[str, Any]) -> Iterator[str]:
    """G6: every tick that made a task has that task, and no other tick has it."""
    with process.current().ledger.read() as connection:
        ticks = connection.exec_driver_sql(
            "SELECT task, outcome FROM postlude_ticks WHERE outcome = 'queued'"
        ).fetchall()
    for id_, count in Counter(row[0] for row in ticks).items():
        if count > 1 or id_ not in tasks:
            yield f"G6: task {id_} of {count} ticks is {'there' if id_ in tasks else 'missing'}"
    made = {id_ for id_, task in tasks.items() if task["actor"] == "walk_ticked"}
    if stray := made - {row[0] for row in ticks}:
        yield f"G6: tasks without a tick: {stray}"


def _mails(tasks: dict[str, Any]) -> Iterator[str]:
    """Each notification is in the maildir once, whole."""
    sent = {id_ for id_, task in tasks.items() if task["actor"] == "send_notification"}
    sent = {id_ for id_ in sent if tasks[id_]["state"] == "succeeded"}
    mails = list(mailbox.Maildir(folder() / "mail", create=False)) if sent else []
    ids = Counter(mail["Message-ID"] for mail in mails)
    if len(ids) != len(sent) or any(count > 1 for count in ids.values()):
        yield f"mail: {len(sent)} sent, in the maildir: {dict(ids)}"
    for mail in mails:
        if "hello" not in str(mail.get_payload()):
            yield f"mail: {mail['Message-ID']} is not whole"


def _files(tasks: dict[str, Any]) -> Iterator[str]:
    """Each promised file has its content, and its profile."""
    promised = [answer["file"] for answer in witnessed("answered") if answer["file"]]
    with process.current().ledger.read() as connection:
        rows = connection.exec_driver_sql("SELECT * FROM files").mappings().all()
    known = {row["id"]: row for row in rows}
    for file in promised:
        row = known.get(file["id"])
        if row is None or not row["profile"]:
            yield f"file: {file['id']} was promised and is {dict(row) if row else 'not there'}"
    del tasks


def _requests(tasks: dict[str, Any]) -> Iterator[str]:
    """What was cancelled on request is cancelled; what was retried has been."""
    for asked in witnessed("cancel"):
        task = tasks[asked["id"]]
        if task["state"] != "cancelled" or task["cancel_requested"]:
            yield f"cancel: {task['actor']} {task['id']} is {task['state']}"
    for asked in witnessed("retry"):
        task = tasks[asked["id"]]
        if task["state"] not in FINAL or task["attempts"] < 3:
            yield f"retry: {task['actor']} {task['id']} has {task['attempts']} attempts"


def _once(tasks: dict[str, Any]) -> Iterator[str]:
    """Who asks again gets the same answer, and the work is done for one of them; a key has one task."""
    answers = [tuple(a["ids"]) for a in witnessed("answered") if a["path"] == "/keyed"]
    made = {id_ for id_, task in tasks.items() if task["actor"] == "walk_keyed"}
    if len(set(answers)) > 1 or len(made - _withdrawn(tasks)) != 1:
        yield f"key: answers {answers}, tasks {made}"
    unique = [
        t for t in tasks.values() if "unique_key" in t["options"] and t["state"] == "succeeded"
    ]
    if len(unique) > 1:
        yield f"key: {[task['id'] for task in unique]} have run with one unique key"


def _withdrawn(tasks: dict[str, Any]) -> set[str]:
    return {id_ for id_, task in tasks.items() if task["reason"] == "request-failed"}


def _orders(tasks: dict[str, Any]) -> Iterator[str]:
    """An order is there if and only if its task is."""
    with process.current().ledger.read() as connection:
        orders = {row[0] for row in connection.exec_driver_sql("SELECT name FROM orders")}
    greeted = {"one" for task in tasks.values() if task["actor"] == "walk_ordered"}
    if orders != greeted:
        yield f"bind: orders {orders}, tasks for {greeted}"


def _is_far_off(task: dict[str, Any]) -> bool:
    from postlude.ledger import clock

    soon = clock.to_micros(clock.now()) + 600_000_000
    return task["state"] == "scheduled" and task["run_at"] > soon
