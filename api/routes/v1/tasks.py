"""``/v1/tasks``: where every task is, and why."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection

from api.openapi import CHANGES, LINK, READS, responses
from api.pages import Cursor, encode_cursor, link_next
from api.resources import Attempt, TaskDetail, TaskPage, TaskSummary, Text, task_url
from postlude import interventions, place, process
from postlude.errors import TaskExpired, UnknownTask
from postlude.ledger import clock
from postlude.ledger.queries import tasks
from postlude.ledger.queries.tasks import TaskView
from postlude.states import State

router = APIRouter(prefix="/v1/tasks", tags=["tasks"])

_LONGEST_ID = 36

TaskId = Annotated[
    str,
    Path(description="The task's id.", examples=["01998f2e-5c5e-7000-8000-3f2f5a1b9c0d"]),
]


class TaskFilter(BaseModel):
    """Which tasks to list; all that is given must fit."""

    model_config = ConfigDict(extra="forbid")

    state: State | None = Field(None, description="Only tasks in this state.", examples=["queued"])
    actor: Text | None = Field(None, description="Only tasks of this actor.")
    queue: Text | None = Field(None, description="Only tasks in this queue.")
    limit: int = Field(50, ge=1, le=500, description="Most items on this page.", examples=[50])
    cursor: Cursor | None = Field(None, description="`next` of the page before.")


@router.get(
    "",
    operation_id="list_tasks",
    summary="List tasks, newest first",
    response_description="A page of tasks.",
    responses=LINK | responses(*READS, "validation"),
)
def list_tasks(
    request: Request, response: Response, wanted: Annotated[TaskFilter, Query()]
) -> TaskPage:
    """List tasks page by page; the Link header and `next` lead to older ones."""
    with process.current().ledger.read() as connection:
        views, before = tasks.page(
            connection,
            state=wanted.state,
            actor=wanted.actor,
            queue=wanted.queue,
            limit=wanted.limit,
            before=wanted.cursor,
        )
    following = None if before is None else encode_cursor(before)
    path = task_url(request, "").rstrip("/")
    link_next(response, path, wanted.model_dump(mode="json", exclude={"cursor"}), following)
    items = [TaskSummary(**_summary(request, view)) for view in views]
    return TaskPage(items=items, next=following)


@router.get(
    "/{task_id}",
    operation_id="get_task",
    summary="Follow one task",
    response_description="The task.",
    responses=responses(*READS, "unknown-task", "task-expired"),
)
def get_task(request: Request, task_id: TaskId) -> TaskDetail:
    """Say everything that is known about a task, and in `place` why it is not running.

    A task that finished and whose retention is over answers 410.
    """
    return _detail(request, task_id)


@router.post(
    "/{task_id}/cancel",
    operation_id="cancel_task",
    summary="Cancel a task",
    response_description="The task, as it is now.",
    responses=responses(*CHANGES, "task-finished"),
)
def cancel_task(request: Request, task_id: TaskId) -> TaskDetail:
    """Cancel a task that has not ended. May be repeated.

    One that waits is cancelled at once. One that runs is interrupted by its worker; until that has
    happened, within a second or so, it is `running` with `cancel_requested`.
    """
    _detail(request, task_id)
    interventions.cancel(process.current().ledger, task_id)
    return _detail(request, task_id)


@router.post(
    "/{task_id}/retry",
    operation_id="retry_task",
    summary="Try a task again now",
    response_description="The task, as it is now.",
    responses=responses(*CHANGES, "not-retryable"),
)
def retry_task(request: Request, task_id: TaskId) -> TaskDetail:
    """Run a task now that failed, was cancelled, or waits for its time.

    It has all its retries again, and its `max_age` counts from now; its attempts stay on record.
    """
    _detail(request, task_id)
    interventions.retry(process.current().ledger, task_id)
    return _detail(request, task_id)


def _detail(request: Request, task_id: str) -> TaskDetail:
    with process.current().ledger.read() as connection:
        view = tasks.get(connection, task_id) if _may_be_an_id(task_id) else None
        if view is None:
            raise _absence(connection, request, task_id)
        attempts = tasks.attempts(connection, task_id)
        told = place.find(connection, view, attempts, clock.now())
    return TaskDetail(
        **_summary(request, view),
        arguments=view.arguments,
        options=view.options,
        attempts=[Attempt.model_validate(attempt) for attempt in attempts],
        result=view.result,
        progress=view.progress,
        cancel_requested=view.cancel_requested,
        correlation_id=view.correlation_id,
        waits_for=view.waits_for,
        group_id=view.group_id,
        place=told,
    )


def _summary(request: Request, view: TaskView) -> dict[str, Any]:
    own = {"attempt_count": view.attempts, "url": task_url(request, view.id)}
    names = TaskSummary.model_fields.keys() - own.keys()
    return {name: getattr(view, name) for name in names} | own


def _may_be_an_id(text: str) -> bool:
    return len(text) <= _LONGEST_ID and "\0" not in text


def _absence(connection: Connection, request: Request, task_id: str) -> UnknownTask | TaskExpired:
    settings = request.app.state.settings
    if _may_be_an_id(task_id) and tasks.was_deleted(connection, task_id, settings, clock.now()):
        message = f"task {task_id}, if it ever was, has finished and is no longer retained"
        return TaskExpired(message)
    message = f"no task has the id {task_id[:_LONGEST_ID]!r}; GET /v1/tasks lists those there are"
    return UnknownTask(message)
