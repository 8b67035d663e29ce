"""Bringing the ledger's tables up to date, with Alembic and a version table of our own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from alembic import command
from alembic.config import Config
from sqlalchemy.exc import DBAPIError

from postlude.errors import LedgerError
from postlude.ledger.compatible import check
from postlude.ledger.engine import build_engine

if TYPE_CHECKING:
    from postlude.settings import Settings

PATIENCE_MS = 30_000
"""How long a migration waits for another one, or for writers, to let go of the write lock."""
_SCRIPTS = Path(__file__).parent / "migrations"


def upgrade(settings: Settings) -> int:
    """Create or update the tables; returns the schema version. May run twice, also at once."""
    engine = build_engine(settings)
    try:
        config = Config()
        config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
        with engine.connect().execution_options(write=True) as connection:
            driver: Any = connection.connection.driver_connection
            driver.execute(f"PRAGMA busy_timeout = {PATIENCE_MS}")
            with connection.begin():
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
        return check(engine)
    except DBAPIError as error:
        message = f"the ledger at {engine.url!r} could not be migrated: {error.orig}"
        raise LedgerError(message) from error
    finally:
        engine.dispose()
