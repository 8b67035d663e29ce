"""Migrations: from nothing to exactly the tables of the schema, by anybody, as often as they like."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext

from postlude.errors import LedgerError, LedgerTooOld
from postlude.ledger import compatible, migrate, schema, sqlite
from postlude.ledger.engine import BareConnection, build_engine
from postlude.settings import load

ROOT = Path(__file__).parents[2]
PATIENCE_S = 20
SCRIPTS = ROOT / "postlude" / "ledger" / "migrations"


AT_THE_SIGNAL = """
import sys
import alembic.autogenerate
from postlude.ledger import ledger, migrate, schema
from postlude.settings import load

settings = load(data_dir=sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
print(migrate.upgrade(settings))
"""


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """Settings of an application whose actors keep no tables of their own."""
    monkeypatch.setattr(migrate, "APPLICATION", "no_actors")
    return load(data_dir=tmp_path)


@pytest.fixture
def engine(settings):
    engine = build_engine(settings)
    yield engine
    engine.dispose()


def alembic(engine, verb: str, revision: str) -> None:
    """Run Alembic's own command on our scripts."""
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        getattr(command, verb)(config, revision)


def differences(engine) -> list:
    """Return what Alembic would have to change to make the tables what the code says they are."""
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "version_table": "postlude_alembic_version",
                "compare_type": True,
                "compare_server_default": True,
            },
        )
        return compare_metadata(context, schema.metadata)


def definitions(engine) -> set[str]:
    """Return the text of everything that is there, however its blanks are set."""
    with engine.connect() as connection:
        found = connection.exec_driver_sql(
            "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE '%alembic%'"
        )
        return {" ".join(sql.split()) for sql in found.scalars()}


def test_from_nothing_to_exactly_the_tables_of_the_code(settings, engine):
    assert migrate.upgrade(settings) == schema.VERSION
    assert differences(engine) == []
    assert compatible.check(engine) == schema.VERSION


def test_indexes_have_the_conditions_of_the_code(settings, engine, tmp_path):
    migrate.upgrade(settings)
    (tmp_path / "other").mkdir()
    other = build_engine(load(data_dir=tmp_path / "other"))
    with other.begin() as connection:
        schema.metadata.create_all(connection)
    indexes = [
        {sql for sql in definitions(each) if sql.startswith("CREATE") and " INDEX " in sql}
        for each in (engine, other)
    ]
    other.dispose()

    assert indexes[0] == indexes[1]
    assert len(indexes[0]) == len(
        {i.name for t in schema.metadata.tables.values() for i in t.indexes}
    )


def test_twice_is_harmless(settings, engine):
    migrate.upgrade(settings)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO postlude_ticks (schedule, incarnation, scheduled_for, ticked_at, outcome)"
            " VALUES ('kept', '', 0, 0, '')"
        )
    before = definitions(engine)

    assert migrate.upgrade(settings) == schema.VERSION
    assert definitions(engine) == before
    with engine.connect() as connection:
        found = connection.exec_driver_sql("SELECT schedule FROM postlude_ticks").scalar_one()
    assert found == "kept"


def test_down_and_up_again(settings, engine):
    migrate.upgrade(settings)
    before = definitions(engine)

    alembic(engine, "downgrade", "base")
    assert definitions(engine) == set()
    with pytest.raises(LedgerTooOld, match="schema none"):
        compatible.check(engine)

    assert migrate.upgrade(settings) == schema.VERSION
    assert definitions(engine) == before


def test_processes_that_migrate_at_once_wait_for_each_other(tmp_path):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", AT_THE_SIGNAL, str(tmp_path)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    ended = [(*process.communicate(timeout=60), process.returncode) for process in processes]

    assert [(out, code) for out, _, code in ended] == [("1\n", 0)] * 3, ended


def test_a_migration_waits_for_those_who_write_for_longer_than_others_do(
    settings, engine, tmp_path, monkeypatch
):
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_MS", 1)
    writer = BareConnection(engine)
    waiting = threading.Thread(target=migrate.upgrade, args=(settings,))
    with writer.raw_transaction():
        waiting.start()
        waiting.join(0.5)
        assert waiting.is_alive()
    waiting.join(PATIENCE_S)
    writer.close()

    assert compatible.check(engine) == schema.VERSION


@pytest.mark.parametrize("name", ["with space", "100%", "%(here)s", "ünïcode", "a?b=c", "a%20b#c"])
def test_a_folder_of_any_name_will_do(tmp_path, name):
    settings = load(data_dir=tmp_path / name)

    assert migrate.upgrade(settings) == schema.VERSION
    assert (tmp_path / name / "postlude.db").is_file()


def test_a_folder_that_is_not_there_is_an_error_of_ours(tmp_path):
    settings = load(data_dir=tmp_path, database_url=f"sqlite:///{tmp_path}/no/such/folder/x.db")

    with pytest.raises(LedgerError, match="could not be migrated: unable to open database file"):
        migrate.upgrade(settings)
