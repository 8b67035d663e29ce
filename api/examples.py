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
        }
    ],
    "result": None,
    "progress": None,
    "correlation_id": "order-4711",
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
OF_SCHEMA: dict[str, Example] = {
    "Accepted": ACCEPTED,
    "Actor": ACTOR,
    "ActorPage": {"items": [ACTOR], "next": None},
    "AddedTask": ADDED,
    "Health": {"status": "ok"},
    "TaskDetail": DETAIL,
    "TaskPage": {"items": [SUMMARY], "next": "MTI4NA"},
    "TaskReference": REFERENCE,
    "TaskSummary": SUMMARY,
}
"""By the names of the schemas in the OpenAPI document."""
