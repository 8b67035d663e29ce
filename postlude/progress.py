"""Telling how far a task is, from inside its actor."""

from __future__ import annotations

import time
from typing import Any

from dramatiq.middleware import CurrentMessage

from postlude.arguments.results import encode_result
from postlude.errors import BadResult

LEAST_S = 0.2
"""Progress is stored at most this often; what is reported between is superseded by the next."""
LIMIT = 16 * 1024


def set_progress(progress: Any) -> None:
    """Report the progress of the task that this thread runs: any JSON value, 16 KiB at most.

    ``set_progress({"done": 3, "of": 10})``, say. It shows in ``GET /v1/tasks/{id}``. Cheap enough to
    call in a loop: it is stored at most five times a second, without waiting. Outside of a worker,
    as when the actor is called directly, it only checks its argument. Raises BadResult for what has
    no JSON form.
    """
    try:
        text = encode_result(progress, LIMIT)
    except BadResult as error:
        raise BadResult(str(error).replace("the result", "the progress", 1)) from None
    message: Any = CurrentMessage.get_current_message()
    if not hasattr(message, "report_progress"):
        return
    now = time.monotonic()
    if now - message.progress_at >= LEAST_S:
        message.progress_at = now
        message.report_progress(text)
