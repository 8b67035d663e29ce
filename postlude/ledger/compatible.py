"""Whether this code fits the tables that are there.

The schema carries its ``version`` and the oldest code version that it is ``compatible_from``. Older
tables must be migrated first; newer ones are fine as long as they say that this code may still work
there, so that a deploy can migrate while old workers finish.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import inspect, select

from postlude.errors import LedgerTooNew, LedgerTooOld
from postlude.ledger import schema
from postlude.ledger.engine import reading

if TYPE_CHECKING:
    from sqlalchemy import Engine


def check(engine: Engine) -> int:
    """Return the schema's version; raises LedgerTooOld or LedgerTooNew when this code does not fit."""
    with reading(engine) as connection:
        found = None
        if inspect(connection).has_table(schema.meta.name):
            found = connection.execute(
                select(schema.meta.c.version, schema.meta.c.compatible_from)
            ).one_or_none()
    if found is None or found.version < schema.VERSION:
        message = (
            f"the ledger at {engine.url!r} has schema {found.version if found else 'none'}, this code "
            f"needs {schema.VERSION}: run `postlude migrate`"
        )
        raise LedgerTooOld(message)
    if found.compatible_from > schema.VERSION:
        message = (
            f"the ledger at {engine.url!r} has schema {found.version}, which needs code of version "
            f"{found.compatible_from} or later; this code is {schema.VERSION}: update it"
        )
        raise LedgerTooNew(message)
    return int(found.version)
