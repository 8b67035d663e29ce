"""Files: ``process_file`` finds out what was uploaded, ``delete_old_files`` makes room again."""

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import dramatiq
import structlog

from actors.files import records, result, retention
from actors.files.content import Content, examine
from actors.files.errors import UnusableFile
from actors.files.key import THUMBNAIL
from actors.files.records import FileRecord
from actors.files.storage import Storage, storage
from postlude import cron
from postlude.process import current
from postlude.settings import settings

log = structlog.get_logger()

SECOND = 1000  # Dramatiq counts milliseconds.
HOUR = 3600 * SECOND


@dramatiq.actor(
    throws=UnusableFile,  # the same file would be as unusable the next time
    max_retries=20,
    min_backoff=5 * SECOND,
    time_limit=1 * HOUR,
)
def process_file(file_id: UUID) -> dict[str, Any]:
    """Find out what the uploaded file is and what is in it; an image gets a thumbnail.

    May run twice, also at once: yes, the same content gives the same row and the same thumbnail.
    Returns what was found, as ``GET /files/{id}`` shows it; of a very wide table without its columns.
    """
    kept = storage(settings())
    with current().ledger.read() as connection:
        record = records.get(connection, str(file_id))
    if record is None:
        message = f"there is no file {file_id}; its retention may be over"
        raise UnusableFile(message)
    content = Content()
    try:
        _examine(kept, record, content)
    except UnusableFile as fault:
        _conclude(record, content.type, fault=str(fault).replace("\0", ""))
        raise
    if content.thumbnail:
        _keep(kept, record.id + THUMBNAIL, content.thumbnail)
    _conclude(record, content.type, profile=content.profile)
    return result.fitting(content.profile or {}, settings().result_limit)


@cron("30 3 * * *", misfire="latest")
@dramatiq.actor(time_limit=1 * HOUR)
def delete_old_files() -> None:
    """Delete files older than POSTLUDE_KEEP_FILES, and whatever uploads that broke off have left.

    May run twice, also at once: yes, what is deleted is deleted. Interrupted, it goes on next time.
    """
    ledger, kept, now = current().ledger, storage(settings()), datetime.now(UTC)
    # First what was promised; for the rest a bucket must be listed, which it may deny.
    span = settings().keep_files
    outdated = (
        retention.delete_outdated(ledger, kept, now - span) if isinstance(span, timedelta) else 0
    )
    abandoned = retention.delete_abandoned(ledger, kept, now)
    if abandoned or outdated:
        log.info("files.deleted", outdated=outdated, abandoned=abandoned)


def _examine(kept: Storage, record: FileRecord, content: Content) -> None:
    file = kept.open(record.id)
    if file is None:
        message = (
            f"the content of {record.name!r} is not in the storage; if workers and API have the same "
            "POSTLUDE_STORAGE_URL, upload it again"
        )
        raise UnusableFile(message)
    with file:
        examine(file, record, content)


def _conclude(
    record: FileRecord,
    kind: str,
    *,
    profile: dict[str, Any] | None = None,
    fault: str | None = None,
) -> None:
    now = datetime.now(UTC)
    current().ledger.write(
        partial(
            records.conclude, file_id=record.id, kind=kind, profile=profile, fault=fault, at=now
        )
    )


def _keep(kept: Storage, key: str, content: bytes) -> None:
    draft = kept.draft(key)
    try:
        draft.write(content)
        draft.publish()
    except BaseException:  # also an interrupt: nothing may be left half-written
        draft.discard()
        raise
