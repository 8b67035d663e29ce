"""Whether this code fits the tables that are there.

The schema carries its ``version`` and the oldest code version that it is ``compatible_from``. Older
tables must be migrated first; newer ones are fine as long as they say that this code may still work
there, so that a deploy can migrate while old workers finish. This is checked when the ledger is opened,
and again with each heartbeat.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import inspect, select

from postlude.errors import LedgerError, LedgerTooNew, LedgerTooOld
from postlude.ledger import schema
from postlude.ledger.engine import reading

if TYPE_CHECKING:
    from sqlalchemy import Engine, Row


def check(engine: Engine) -> int:
    """Return the schema's version; raises LedgerTooOld or LedgerTooNew when this code does not fit.

    Raises LedgerError when the database cannot be opened.
    """
    try:
        found = _look(engine)
    except LedgerError as error:
        cause = getattr(error.__cause__, "orig", None) or error
        message = (
            f"the ledger at {engine.url!r} cannot be opened ({cause}); see that there is room and "
            "that this user may write the file and its folder"
        )
        raise LedgerError(message) from error
    if found is None or found.version < schema.VERSION:
        message = (
            f"the ledger at {engine.url!r} has schema {found.version if found else 'none'}, this code "
            f"needs {schema.VERSION}: run `postlude migrate`"
        )
        raise LedgerTooOld(message)
    must_fit(found.compatible_from, f"the ledger at {engine.url!r}")
    return int(found.version)


def fits(compatible_from: int) -> bool:
    """Say whether this code may work with tables that are compatible from that version on."""
    return compatible_from <= schema.VERSION


def must_fit(compatible_from: int, ledger: str = "the ledger") -> None:
    """Raise LedgerTooNew if it may not."""
    if not fits(compatible_from):
        message = (
            f"{ledger} needs code of schema version {compatible_from} or later; this code is of "
            f"{schema.VERSION}: finish the deploy, run the newer version"
        )
        raise LedgerTooNew(message)


def _look(engine: Engine) -> Row[Any, Any] | None:
    with reading(engine) as connection:
        if not inspect(connection).has_table(schema.meta.name):
            return None
        return connection.execute(
            select(schema.meta.c.version, schema.meta.c.compatible_from)
        ).one_or_none()
