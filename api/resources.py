"""What the API answers with: tasks, attempts and actors as JSON."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from postlude.dispatch.handle import TaskHandle
from postlude.states import Reason, State


def _without_nul(text: str) -> str:
    if "\0" in text:
        message = "a NUL character is in no name"
        raise ValueError(message)
    return text


Text = Annotated[str, AfterValidator(_without_nul), Field(max_length=255)]
"""A name that a client asks for; databases refuse NUL."""


class TaskReference(BaseModel):
    """A task that was added by the request that is being answered."""

    id: str
    actor: str
    state: State = Field(description="Always accepted; what becomes of it, its url tells.")
    url: str = Field(description="Where to follow it.")


class Accepted(BaseModel):
    """The answer to a request that goes on in the background."""

    message: str
    tasks: list[TaskReference] = Field(description="What was added, in order.")


class AddedTask(TaskReference):
    """A task that was added on request, with what was decided about it."""

    queue: str
    run_at: datetime | None = Field(description="Not before this instant; null: at once.")


class TaskSummary(BaseModel):
    """A task in a list."""

    id: str
    actor: str
    queue: str
    state: State
    reason: Reason | None = Field(description="Why it failed or was cancelled.")
    duplicate_of: str | None = Field(description="The task that had its unique key.")
    priority: int = Field(description="Lower runs first.")
    attempt_count: int = Field(description="Runs that have ended, one way or another.")
    crashes: int = Field(description="Workers that died of it.")
    created_at: datetime
    run_at: datetime | None = Field(description="Not before this instant; null: at once.")
    started_at: datetime | None
    finished_at: datetime | None
    url: str


class LogLine(BaseModel):
    """One line that an attempt logged."""

    at: datetime
    level: str
    logger: str
    message: str = Field(description="With its fields and its traceback, if it had any.")


class Attempt(BaseModel):
    """One run of a task."""

    model_config = ConfigDict(from_attributes=True)

    number: int
    worker: str
    started_at: datetime | None
    finished_at: datetime | None
    outcome: str
    error_type: str | None
    error_message: str | None
    traceback: str | None
    fingerprint: str | None = Field(description="The same for failures of one kind.")
    logs: list[LogLine] = Field(
        description="What it logged; of too much, the newest lines. A worker that dies takes them along."
    )


class TaskDetail(TaskSummary):
    """A task with everything that is known about it."""

    arguments: dict[str, Any]
    options: dict[str, Any]
    attempts: list[Attempt]
    result: Any
    progress: Any
    cancel_requested: bool = Field(description="Its worker has been asked to stop it.")
    correlation_id: str | None = Field(description="X-Request-ID of the request that added it.")
    waits_for: str | None = Field(
        description="The task before it in its pipeline, or the group whose callback it is."
    )
    group_id: str | None = Field(description="The group that waits for it, among others.")
    place: str = Field(description="Where it is and what it waits for, in words for people.")


class Actor(BaseModel):
    """An actor: what it is called with, and who runs it."""

    name: str
    queue: str
    schema_: dict[str, Any] = Field(
        alias="schema", description="JSON Schema of its named arguments."
    )
    options: dict[str, Any]
    workers: int = Field(description="Live workers that know it.")
    loaded: bool = Field(description="Whether this process can add tasks for it.")
    url: str


class TaskPage(BaseModel):
    """One page of tasks, newest first."""

    items: list[TaskSummary]
    next: str | None = Field(description="Cursor of the next page; null: this was the last one.")


class ActorPage(BaseModel):
    """All actors, by name: there is never a next page."""

    items: list[Actor]
    next: None = None


class CacheEntry(BaseModel):
    """What the cache has under one key."""

    key: str
    value: Any = Field(description="As the loader of the key made it; null: not loaded yet.")
    refreshed_at: datetime | None = Field(
        description="Everything that was stored before is in the value."
    )
    stale: bool = Field(description="Whether it is older than it should be.")
    refreshing: bool = Field(description="Whether it is being loaded anew right now.")
    error: str | None = Field(description="Why the last refresh failed; null: it did not.")
    failed_at: datetime | None


class EventCount(BaseModel):
    """How many events of one name there were in one hour."""

    model_config = ConfigDict(from_attributes=True)

    hour: datetime = Field(description="Its first instant, in UTC.")
    name: str
    count: int


class EventSummary(BaseModel):
    """How many events there were, by hour and name; hours without any are left out."""

    since: datetime
    until: datetime = Field(description="The first instant that is not counted any more.")
    items: list[EventCount]
    complete: bool = Field(description="False: there are more than `limit`; ask for less.")


FileState = Literal["waiting", "processed", "failed", "cancelled"]


class StoredFile(BaseModel):
    """A file that is safe in the storage."""

    id: str
    name: str = Field(description="Its name, made harmless.")
    size: int = Field(description="In bytes.")
    sha256: str
    url: str = Field(description="Where its profile will be.")


class UploadAccepted(BaseModel):
    """The answer to an upload: the file is stored, what is in it will be known later."""

    file: StoredFile
    tasks: list[TaskReference] = Field(description="What was added, in order.")


class FileTask(BaseModel):
    """The task that processes a file."""

    id: str
    state: State
    progress: Any = Field(description="While it runs: step, and bytes done of all.")
    url: str


class FileDetail(StoredFile):
    """A file and what is known about it."""

    state: FileState
    type: str | None = Field(description="Media type, found in the content; null: not looked at.")
    profile: dict[str, Any] | None = Field(description="What is in it; null until processed.")
    fault: str | None = Field(description="Why it cannot be used.")
    created_at: datetime
    processed_at: datetime | None
    task: FileTask | None = Field(description="Null once the task is no longer retained.")


def task_url(request: Request, task_id: str) -> str:
    """Return where a task is followed, as a path of this server."""
    return f"{request.scope.get('root_path', '')}/v1/tasks/{task_id}"


def reference(request: Request, handle: TaskHandle) -> TaskReference:
    """Describe a task that the request has just added."""
    return TaskReference(
        id=handle.id, actor=handle.actor, state=State.ACCEPTED, url=task_url(request, handle.id)
    )
