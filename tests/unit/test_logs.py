"""What log lines look like, and what they must not show."""

from __future__ import annotations

import io
import json
import logging
import os
import pty

import pytest
import structlog

from postlude import logs
from postlude.settings import load


@pytest.fixture(autouse=True)
def _logging_as_it_was(monkeypatch):
    monkeypatch.setattr(logs, "_announced", set())
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], _ = handlers, root.setLevel(level)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def configured(**settings):
    stream = io.StringIO()
    logs.configure(load(**settings), "api", stream=stream)
    return stream


def events(stream):
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_is_one_object_a_line_with_role_and_context():
    stream = configured(log_format="json")
    structlog.contextvars.bind_contextvars(task_id="t-1")

    structlog.get_logger().info("task.retried", delay_s=1.5)

    event = events(stream)[-1]
    assert event["timestamp"].endswith("Z")
    assert {
        "event": "task.retried",
        "delay_s": 1.5,
        "level": "info",
        "role": "api",
        "task_id": "t-1",
    }.items() <= event.items()


def test_a_traceback_stays_inside_its_json_line():
    stream = configured(log_format="json")

    try:
        _ = 1 // 0
    except ZeroDivisionError:
        structlog.get_logger().error("task.broke", exc_info=True)

    assert "ZeroDivisionError" in events(stream)[-1]["exception"]


def test_each_process_says_once_where_its_data_is(tmp_path):
    stream = io.StringIO()
    settings = load(log_format="json", data_dir=tmp_path / "x")

    logs.configure(settings, "worker", stream=stream)
    logs.configure(settings, "worker", stream=stream)

    (started,) = [event for event in events(stream) if event["event"] == "process.started"]
    assert started["data_dir"] == str(tmp_path / "x")
    assert started["ledger"] == f"sqlite:///{tmp_path / 'x' / 'postlude.db'}"
    assert [started[each] for each in ("broker", "files", "cache")] == [
        "ledger",
        "folder",
        "ledger",
    ]
    assert started["version"]


def test_where_files_and_the_cache_are_is_told_without_any_part_of_their_urls(tmp_path):
    stream, urls = io.StringIO(), {"storage_url": "s3://hush@files", "cache_url": "redis://hush@x"}

    logs.configure(load(log_format="json", data_dir=tmp_path, **urls), "elsewhere", stream=stream)

    [started] = events(stream)
    assert (started["files"], started["cache"]) == ("bucket", "redis")
    assert "hush" not in stream.getvalue()


def test_configured_twice_it_logs_once():
    streams = [configured(log_format="json") for _ in range(2)]

    logging.getLogger("uvicorn.error").info("hello")

    assert ["hello" in stream.getvalue() for stream in streams] == [False, True]


def test_libraries_log_through_the_same_door():
    library = logging.getLogger("uvicorn.error")
    own = logging.StreamHandler(io.StringIO())
    library.addHandler(own)
    library.propagate = False

    stream = configured(log_format="json")
    library.info("Started %s", "it")

    assert events(stream)[-1]["event"] == "Started it"
    assert events(stream)[-1]["logger"] == "uvicorn.error"
    assert own.stream.getvalue() == ""


@pytest.mark.parametrize(
    "name", ["uvicorn.access", "apscheduler.scheduler", "alembic.runtime", "pika.x"]
)
def test_chatter_of_libraries_is_left_out(name):
    stream = configured(log_format="json")

    logging.getLogger(name).info("chatter")

    assert "chatter" not in stream.getvalue()


def test_at_level_debug_nothing_is_left_out():
    stream = configured(log_format="json", log_level="debug")

    logging.getLogger("uvicorn.access").info("chatter")
    structlog.get_logger().debug("detail")

    assert [event["event"] for event in events(stream)[-2:]] == ["chatter", "detail"]


def test_the_level_is_respected():
    stream = configured(log_format="json", log_level="error")

    structlog.get_logger().warning("no")
    logging.getLogger("dramatiq").warning("no")

    assert stream.getvalue() == ""


def test_auto_is_json_where_nobody_reads():
    stream = configured(log_format="auto")

    assert events(stream)[0]["event"] == "process.started"


def test_auto_is_for_people_on_a_terminal():
    master, slave = pty.openpty()
    with os.fdopen(master, "rb", 0) as screen, os.fdopen(slave, "w") as terminal:
        logs.configure(load(log_format="auto"), "api", stream=terminal)
        shown = screen.read(200)

    assert b"process.started" in shown
    assert not shown.startswith(b"{")


@pytest.mark.parametrize(
    ("environment", "coloured"),
    [({}, False), ({"FORCE_COLOR": "1"}, True), ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False)],
)
def test_colours_follow_the_conventions(monkeypatch, environment, coloured):
    for name in ("FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    stream = configured(log_format="console")

    assert ("\x1b[" in stream.getvalue()) is coloured


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://me:secret@db:5432/x", "postgresql://me:***@db:5432/x"),
        ("amqp://me:s3/c:r@host/v", "amqp://me:***@host/v"),
        (
            "postgresql://db/x?user=me&password=secret&a=b",
            "postgresql://db/x?user=me&password=***&a=b",
        ),
        ("sqlite:////data/postlude.db", "sqlite:////data/postlude.db"),
        ("http://127.0.0.1:8000/v1", "http://127.0.0.1:8000/v1"),
    ],
)
def test_passwords_are_masked(text, shown):
    assert logs.masked(text) == shown


def test_importing_sets_nothing_up(tmp_path):
    code = (
        "import logging, postlude.logs, postlude.supervisor; "
        "assert not logging.getLogger().handlers; import os; print(os.listdir('.'))"
    )
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.strip() == "[]"
