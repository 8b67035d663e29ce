"""The rows of files: one file each, from its upload to the end of its retention."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, or_, select, text

from actors.files.tables import files
from postlude.ledger.clock import from_micros, to_micros
from postlude.ledger.schema import tasks
from postlude.ledger.statement import Statement
from postlude.states import FINAL

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from postlude.ledger.statement import Tx

_INSERT = Statement(
    text("""
    INSERT INTO files (id, name, size, sha256, task, created_at)
    VALUES (:id, :name, :size, :sha256, :task, :created_at)
    ON CONFLICT (id) DO NOTHING""")
)
_CONCLUDE = Statement(
    text("""
    UPDATE files
    SET type = :type, profile = :profile, fault = :fault, processed_at = :processed_at
    WHERE id = :id""")
)
_DELETE = Statement(text("DELETE FROM files WHERE id = :id"))


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file that has just been stored; ``name`` is what to show, ``task`` will process it."""

    id: str
    name: str
    size: int
    sha256: str
    task: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class FileRecord(NewFile):
    """A file on record. ``profile`` and ``fault`` are None until it has been looked at."""

    type: str | None
    profile: dict[str, Any] | None
    fault: str | None
    processed_at: datetime | None


def insert(tx: Tx, file: NewFile) -> None:
    """Put ``file`` on record. May be replayed."""
    tx.run(
        _INSERT,
        id=file.id,
        name=file.name,
        size=file.size,
        sha256=file.sha256,
        task=file.task,
        created_at=to_micros(file.created_at),
    )


def conclude(
    tx: Tx,
    file_id: str,
    *,
    kind: str,
    profile: dict[str, Any] | None,
    fault: str | None,
    at: datetime,
) -> None:
    """Say what was found in a file, or what is wrong with it, replacing what was said before."""
    tx.run(
        _CONCLUDE,
        id=file_id,
        type=kind,
        profile=None if profile is None else json.dumps(profile, ensure_ascii=False),
        fault=fault,
        processed_at=to_micros(at),
    )


def delete(tx: Tx, file_ids: list[str]) -> None:
    """Forget these files. May be replayed."""
    for file_id in file_ids:
        tx.run(_DELETE, id=file_id)


def get(connection: Connection, file_id: str) -> FileRecord | None:
    """Return the file with this id, None if there is none (any more)."""
    row = connection.execute(select(files).where(files.c.id == file_id)).one_or_none()
    if row is None:
        return None
    return FileRecord(
        id=row.id,
        name=row.name,
        size=row.size,
        sha256=row.sha256,
        task=row.task,
        created_at=from_micros(row.created_at),
        type=row.type,
        profile=None if row.profile is None else json.loads(row.profile),
        fault=row.fault,
        processed_at=from_micros(row.processed_at),
    )


def outdated(connection: Connection, before: datetime, limit: int) -> list[str]:
    """Return up to ``limit`` files from before then, but none whose task is still to run."""
    over = or_(tasks.c.id.is_(None), tasks.c.state.in_([state.value for state in FINAL]))
    return _older(connection, before, limit, over)


def abandoned(connection: Connection, before: datetime, limit: int) -> list[str]:
    """Return up to ``limit`` files from before then that nobody has processed and no task will."""
    never = and_(tasks.c.id.is_(None), files.c.processed_at.is_(None))
    return _older(connection, before, limit, never)


def _older(connection: Connection, before: datetime, limit: int, condition: Any) -> list[str]:
    query = (
        select(files.c.id)
        .join(tasks, tasks.c.id == files.c.task, isouter=True)
        .where(files.c.created_at < to_micros(before), condition)
        .order_by(files.c.created_at)
        .limit(limit)
    )
    return list(connection.execute(query).scalars())


def known(connection: Connection, file_ids: list[str]) -> set[str]:
    """Return those of ``file_ids`` (a few hundred at most) that are on record."""
    return set(connection.execute(select(files.c.id).where(files.c.id.in_(file_ids))).scalars())
