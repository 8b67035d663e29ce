"""Bringing tables up to date: the ledger's, and those that packages of actors keep beside it.

A package of actors that has a folder ``migrations/versions`` owns tables in the ledger's database. Its
revisions are a branch of their own, with a version table of its own, and may have several heads, one
for each use case.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alembic import command
from alembic.config import Config
from sqlalchemy.exc import DBAPIError

from postlude.errors import LedgerError
from postlude.ledger.compatible import check
from postlude.ledger.engine import build_engine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

    from postlude.settings import Settings

PATIENCE_MS = 30_000
"""How long a migration waits for another one, or for writers, to let go of the write lock."""
APPLICATION = "actors"
"""The package of actors that is always there, if it is there at all."""
_SCRIPTS = Path(__file__).parent / "migrations"


@dataclass(frozen=True, slots=True)
class Branch:
    """Revisions that belong together, and the table that says how far they are."""

    versions: Path
    version_table: str


def upgrade(settings: Settings) -> int:
    """Create or update all tables; returns the ledger's schema version. May run twice, also at once.

    Raises LedgerError when the database does not let us.
    """
    engine = build_engine(settings)
    try:
        with engine.connect().execution_options(write=True) as connection:
            driver: Any = connection.connection.driver_connection
            driver.execute(f"PRAGMA busy_timeout = {PATIENCE_MS}")
            for branch in branches(settings):
                _upgrade(connection, branch)
        return check(engine)
    except DBAPIError as error:
        message = f"the ledger at {engine.url!r} could not be migrated: {error.orig}"
        raise LedgerError(message) from error
    finally:
        engine.dispose()


def branches(settings: Settings) -> Iterator[Branch]:
    """Return the ledger's branch and those of the packages of actors, which are not imported."""
    yield Branch(_SCRIPTS / "versions", "postlude_alembic_version")
    for name in (APPLICATION, *settings.actors):
        spec = find_spec(name.partition(".")[0])
        for folder in (spec and spec.submodule_search_locations) or ():
            versions = Path(folder, *name.split(".")[1:], "migrations", "versions")
            if versions.is_dir():
                yield Branch(versions, f"{name.replace('.', '_')}_alembic_version")


def _upgrade(connection: Connection, branch: Branch) -> None:
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    config.set_main_option("version_locations", str(branch.versions).replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    with connection.begin():
        config.attributes["connection"] = connection
        config.attributes["version_table"] = branch.version_table
        command.upgrade(config, "heads")
