"""The example that FastAPI's documentation begins with, made durable by one import.

The endpoint and its dependency share one ``background_tasks``; the tasks of both are stored before
the response goes out, in the order in which they were added, and run once it is out.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from actors.activity import write_log
from actors.mail import send_notification
from api.idempotency import KeyRoute
from api.openapi import ADDS, IDEMPOTENCY_KEY, LOCATION, responses
from api.resources import Accepted, reference
from postlude import BackgroundTasks, TaskHandle

router = APIRouter(tags=["use cases"], route_class=KeyRoute)

Email = Annotated[
    str,
    Path(
        description="Who gets the notification.",
        examples=["ada@example.com"],
        json_schema_extra={"format": "email"},
    ),
]
Message = Annotated[
    str, Query(description="What the notification says.", examples=["Your order is on its way"])
]
Q = Annotated[
    str | None,
    Query(description="Written to the activity log by a task of its own.", examples=["orders"]),
]


async def get_query(background_tasks: BackgroundTasks, q: Q = None) -> TaskHandle | None:
    """Log what was asked for: a dependency that adds a task of its own."""
    if not q:
        return None
    return background_tasks.add_task(write_log, f"found query: {q}")


@router.post(
    "/send-notification/{email}",
    status_code=202,
    operation_id="send_notification",
    summary="Send a notification in the background",
    response_description="Accepted: the tasks run once this response is out.",
    responses=LOCATION | responses(*ADDS),
    openapi_extra=IDEMPOTENCY_KEY,
)
async def notify(  # noqa: PLR0917 # FastAPI passes by name
    request: Request,
    response: Response,
    background_tasks: BackgroundTasks,
    query_task: Annotated[TaskHandle | None, Depends(get_query)],
    email: Email,
    message: Message = "some notification",
) -> Accepted:
    """Mail a notification, after the response and without the client waiting for it.

    What is no address is refused at once: the actor's signature says what it takes.
    """
    own_task = background_tasks.add_task(send_notification, email, message)
    tasks = [reference(request, task) for task in (query_task, own_task) if task]
    response.headers["location"] = tasks[-1].url
    return Accepted(message="Notification sent in the background", tasks=tasks)
