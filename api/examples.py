"""One story for the examples of the OpenAPI document: a mail to Ada, delayed by ten seconds."""

from __future__ import annotations

from typing import Any

Example = dict[str, Any]

_ID = "01998f2e-5c5e-7000-8000-3f2f5a1b9c0d"
_LOG_ID = "01998f2e-5c5d-7000-8000-07a1c3d2e4f6"

REFERENCE: Example = {
    "id": _ID,
    "actor": "send_notification",
    "state": "accepted",
    "url": f"/v1/tasks/{_ID}",
}
ACCEPTED: Example = {
    "message": "Notification sent in the background",
    "tasks": [
        {**REFERENCE, "id": _LOG_ID, "actor": "write_log", "url": f"/v1/tasks/{_LOG_ID}"},
        REFERENCE,
    ],
}
NEW_TASK: Example = {
    "args": {"email": "ada@example.com", "message": "In ten seconds"},
    "options": {"delay": "10s"},
}
NEW_TASKS: dict[str, Any] = {
    "delayed": {"summary": "In ten seconds", "value": NEW_TASK},
    "at once": {"summary": "At once", "value": {"args": NEW_TASK["args"]}},
}
ADDED: Example = {**REFERENCE, "queue": "default", "run_at": "2026-11-24T09:00:10Z"}
SUMMARY: Example = {
    "id": _ID,
    "actor": "send_notification",
    "queue": "default",
    "state": "succeeded",
    "reason": None,
    "duplicate_of": None,
    "priority": 0,
    "attempt_count": 1,
    "crashes": 0,
    "created_at": "2026-11-24T09:00:00.004217Z",
    "run_at": "2026-11-24T09:00:10Z",
    "started_at": "2026-11-24T09:00:10.006120Z",
    "finished_at": "2026-11-24T09:00:10.051377Z",
    "url": f"/v1/tasks/{_ID}",
}
DETAIL: Example = {
    **SUMMARY,
    "arguments": NEW_TASK["args"],
    "options": {},
    "cancel_requested": False,
    "attempts": [
        {
            "number": 1,
            "worker": "01998f2d-0000-7000-8000-5a1b9c0d3f2f",
            "started_at": SUMMARY["started_at"],
            "finished_at": SUMMARY["finished_at"],
            "outcome": "succeeded",
            "error_type": None,
            "error_message": None,
            "traceback": None,
            "fingerprint": None,
            "logs": [],
        }
    ],
    "result": None,
    "progress": None,
    "correlation_id": "order-4711",
    "waits_for": None,
    "group_id": None,
    "place": "finished",
}
ACTOR: Example = {
    "name": "send_notification",
    "queue": "default",
    "schema": {
        "type": "object",
        "properties": {
            "email": {"type": "string", "format": "email"},
            "message": {"type": "string"},
        },
        "required": ["email", "message"],
        "additionalProperties": False,
    },
    "options": {"max_retries": 30},
    "workers": 1,
    "loaded": True,
    "url": "/v1/actors/send_notification",
}
EVENT: Example = {
    "id": "order-4711",
    "name": "order.placed",
    "at": "2026-11-24T09:00:00Z",
    "data": {"amount": 12.5},
}
EVENTS: dict[str, Any] = {
    "several": {"summary": "Several", "value": [EVENT, {"name": "page.viewed"}]},
    "one": {"summary": "One", "value": EVENT},
}
COUNT: Example = {"hour": "2026-11-24T09:00:00Z", "name": "order.placed", "count": 42}
CACHED: Example = {
    "key": "analytics-summary",
    "value": {"counts": {"order.placed": 42}},
    "refreshed_at": "2026-11-24T09:00:00.004217Z",
    "stale": False,
    "refreshing": False,
    "error": None,
    "failed_at": None,
}
FILE_TASK: Example = {**REFERENCE, "actor": "process_file"}
FILE: Example = {
    "id": _LOG_ID,
    "name": "mathematicians.csv",
    "size": 25,
    "sha256": "f25dc26a09cc44f3b1f26be06ff7f505e3a5ac8d165274d37e2cb4afccb531ab",
    "url": f"/files/{_LOG_ID}",
}
FILE_DETAIL: Example = {
    **FILE,
    "state": "processed",
    "type": "text/csv",
    "profile": {
        "type": "text/csv",
        "encoding": "utf-8",
        "delimiter": ",",
        "header": True,
        "rows": 1,
        "uneven_rows": 0,
        "columns": [
            {"name": "name", "type": "text", "nulls": 0, "min": "Ada", "max": "Ada"},
            {"name": "born", "type": "date", "nulls": 0, "min": "1815-12-10", "max": "1815-12-10"},
        ],
    },
    "fault": None,
    "created_at": SUMMARY["created_at"],
    "processed_at": SUMMARY["finished_at"],
    "task": {"id": _ID, "state": "succeeded", "progress": None, "url": f"/v1/tasks/{_ID}"},
}
OF_SCHEMA: dict[str, Example] = {
    "Accepted": ACCEPTED,
    "Actor": ACTOR,
    "ActorPage": {"items": [ACTOR], "next": None},
    "AddedTask": ADDED,
    "CacheEntry": CACHED,
    "Event": EVENT,
    "EventCount": COUNT,
    "EventSummary": {
        "since": "2026-11-23T10:00:00Z",
        "until": "2026-11-24T10:00:00Z",
        "items": [COUNT],
        "complete": True,
    },
    "FileDetail": FILE_DETAIL,
    "Health": {"status": "ok"},
    "TaskDetail": DETAIL,
    "TaskPage": {"items": [SUMMARY], "next": "MTI4NA"},
    "TaskReference": REFERENCE,
    "TaskSummary": SUMMARY,
    "UploadAccepted": {"file": FILE, "tasks": [FILE_TASK]},
}
"""By the names of the schemas in the OpenAPI document."""
