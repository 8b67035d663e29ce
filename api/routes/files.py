"""Files: uploaded in one request, looked at in the background, their profile served by id."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any
from uuid import UUID

import structlog
from fastapi import APIRouter, Depends, Path, Request, Response
from fastapi.concurrency import run_in_threadpool

from actors.files import process_file, records
from actors.files.errors import StorageUnavailable
from actors.files.storage import storage
from api import uploads
from api.idempotency import UploadRoute, note
from api.multipart import FIELD
from api.openapi import ADDS, IDEMPOTENCY_KEY, READS, location, responses
from api.problems import Code, HttpProblem
from api.resources import (
    FileDetail,
    FileState,
    FileTask,
    StoredFile,
    UploadAccepted,
    reference,
    task_url,
)
from api.uploads import Upload
from postlude import BackgroundTasks
from postlude.dispatch.exchange import SCOPE_KEY
from postlude.errors import AcceptUnknown
from postlude.ledger.queries import tasks
from postlude.ledger.queries.tasks import TaskView
from postlude.process import current
from postlude.states import State

log = structlog.get_logger()
router = APIRouter(tags=["use cases"], route_class=UploadRoute)

_BODY: dict[str, Any] = {
    "required": True,
    "description": "One file, streamed to the storage as it arrives.",
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": [FIELD],
                "additionalProperties": False,
                "properties": {FIELD: {"type": "string", "format": "binary"}},
            },
            "examples": {"table": {"value": {FIELD: "name,born\nAda,1815-12-10\n"}}},
        }
    },
}


async def received(request: Request) -> AsyncIterator[Upload]:
    """Store the uploaded file, and remove it again if the request fails after all."""
    settings = request.app.state.settings
    upload = await uploads.receive(request, storage(settings), limit=settings.file_limit)
    note(request, upload)
    try:
        yield upload
    finally:
        if _has_failed(request):
            # Begun before it is waited for: it ends even if this request is cancelled.
            removal = asyncio.get_running_loop().run_in_executor(None, _remove, request, upload.id)
            await asyncio.shield(removal)


@router.post(
    "/files",
    status_code=202,
    operation_id="upload_file",
    summary="Upload a file and have it looked at in the background",
    response_description="Accepted: the file is stored, its task runs once this response is out.",
    responses=location("Where the file's profile will be.")
    | responses(*ADDS, "bad-request", "unsupported-media-type", "storage-unavailable"),
    openapi_extra=IDEMPOTENCY_KEY | {"requestBody": _BODY},
)
async def upload_file(
    request: Request,
    response: Response,
    background_tasks: BackgroundTasks,
    upload: Annotated[Upload, Depends(received)],
) -> UploadAccepted:
    """Store a file, of up to POSTLUDE_FILE_LIMIT bytes, and add the task that looks into it.

    The answer is given once file, row and task are on the disk.
    """
    task = background_tasks.add_task(process_file, UUID(upload.id))
    new = records.NewFile(
        upload.id, upload.name, upload.size, upload.sha256, task.id, datetime.now(UTC)
    )
    await run_in_threadpool(current().ledger.write, partial(records.insert, file=new))
    file = _stored(request, new)
    response.headers["location"] = file.url
    return UploadAccepted(file=file, tasks=[reference(request, task)])


@router.get(
    "/files/{id}",
    operation_id="get_file",
    summary="A file: how far it is, and what is in it",
    response_description="What is known so far.",
    responses=responses(*READS, "not-found", "validation"),
)
def get_file(
    request: Request,
    file_id: Annotated[
        UUID,
        Path(
            alias="id",
            description="What POST /files answered.",
            examples=["01998f2e-5c5e-7000-8000-3f2f5a1b9c0d"],
        ),
    ],
) -> FileDetail:
    """Return what is known of a file; 404 when there is none, or its retention is over."""
    with current().ledger.read() as connection:
        record = records.get(connection, str(file_id))
        task = tasks.get(connection, record.task) if record else None
    if record is None or (task is None and record.processed_at is None):
        detail = f"There is no file {file_id}; it was never uploaded, or its retention is over."
        raise HttpProblem(Code.NOT_FOUND, detail)
    return _detail(request, record, task)


def _has_failed(request: Request) -> bool:
    """Say whether no task will process the upload: its request failed before it was promised one.

    Where it is not known whether the task was accepted, the file stays.
    """
    exchange = request.scope[SCOPE_KEY]
    return not exchange.started and not isinstance(exchange.refusal, AcceptUnknown)


def _remove(request: Request, file_id: str) -> None:
    try:
        storage(request.app.state.settings).delete(file_id)
    except StorageUnavailable:
        log.warning("file.not_removed", file_id=file_id, exc_info=True)  # it will be swept
    current().ledger.submit(partial(records.delete, file_ids=[file_id]), patient=True)


def _stored(request: Request, file: records.NewFile) -> StoredFile:
    url = f"{request.scope.get('root_path', '')}/files/{file.id}"
    return StoredFile(id=file.id, name=file.name, size=file.size, sha256=file.sha256, url=url)


def _detail(request: Request, record: records.FileRecord, task: TaskView | None) -> FileDetail:
    followed = task and FileTask(
        id=task.id, state=task.state, progress=task.progress, url=task_url(request, task.id)
    )
    return FileDetail(
        **_stored(request, record).model_dump(),
        state=_state(record, task),
        type=record.type,
        profile=record.profile,
        fault=record.fault,
        created_at=record.created_at,
        processed_at=record.processed_at,
        task=followed,
    )


def _state(record: records.FileRecord, task: TaskView | None) -> FileState:
    if record.profile is not None:
        return "processed"
    if record.fault is not None or (task and task.state is State.FAILED):
        return "failed"
    return "cancelled" if task and task.state is State.CANCELLED else "waiting"
