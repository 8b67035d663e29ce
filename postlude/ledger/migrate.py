"""Bringing the ledger's tables up to date, with Alembic and a version table of our own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config

from postlude.ledger.compatible import check
from postlude.ledger.engine import build_engine

if TYPE_CHECKING:
    from postlude.settings import Settings

_SCRIPTS = Path(__file__).parent / "migrations"


def upgrade(settings: Settings) -> int:
    """Create or update the tables; returns the schema version. May run twice, also at once."""
    engine = build_engine(settings)
    try:
        config = Config()
        config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
        with engine.connect() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
        return check(engine)
    finally:
        engine.dispose()
