"""Removing files: those whose time is over, and those that nobody knows of any more.

The row goes first: from then on the file is not served. If the process dies before the bytes are
gone too, they are bytes without a row, which the next run removes.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from actors.files import records

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

    from actors.files.storage import Storage
    from postlude.ledger.ledger import Ledger

BATCH = 200
MISSED = timedelta(hours=1)
"""Age from which a file without a row, or a row without a task, belongs to no request under way."""
LOCKING = timedelta(minutes=1)
"""More than enough time between making a draft and locking it."""


def delete_outdated(ledger: Ledger, storage: Storage, before: datetime) -> int:
    """Delete files from before then whose tasks are over; returns how many."""
    return _delete(ledger, storage, partial(records.outdated, before=before, limit=BATCH))


def delete_abandoned(ledger: Ledger, storage: Storage, now: datetime) -> int:
    """Delete files whose request failed half-way, and what killed processes left; returns how many."""
    before = now - MISSED
    rows = _delete(ledger, storage, partial(records.abandoned, before=before, limit=BATCH))
    return rows + _delete_unknown(ledger, storage, before) + storage.clear_drafts(now - LOCKING)


def _delete(ledger: Ledger, storage: Storage, chosen: Callable[[Connection], list[str]]) -> int:
    deleted = 0
    while True:
        with ledger.read() as connection:
            ids = chosen(connection)
        if not ids:
            return deleted
        ledger.write(partial(records.delete, file_ids=ids))
        for file_id in ids:
            storage.delete(file_id)
        deleted += len(ids)


def _delete_unknown(ledger: Ledger, storage: Storage, before: datetime) -> int:
    deleted = 0
    stored = storage.ids(before)
    while some := list(islice(stored, BATCH)):
        with ledger.read() as connection:
            unknown = set(some) - records.known(connection, some)
        for file_id in unknown:
            storage.delete(file_id)
        deleted += len(unknown)
    return deleted
