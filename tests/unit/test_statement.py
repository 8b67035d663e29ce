"""Statements: compiled once, parameters by name, and nothing that SQLAlchemy would have to fill in."""

from __future__ import annotations

import importlib
import pkgutil
import sqlite3

import pytest
from sqlalchemy import text, update

from postlude.ledger import schema, transitions
from postlude.ledger.statement import Statement, Tx, dialect_named

SQLITE = dialect_named("sqlite")
STATEMENTS = {
    f"{module.name}.{name}": value
    for module in pkgutil.iter_modules(transitions.__path__)
    for name, value in vars(
        importlib.import_module(f"{transitions.__name__}.{module.name}")
    ).items()
    if isinstance(value, Statement)
}


@pytest.fixture
def tx():
    connection = sqlite3.connect(":memory:")
    cursor = connection.cursor()
    cursor.execute("CREATE TABLE t (x)")
    yield Tx(cursor, SQLITE)
    connection.close()


def test_the_text_is_made_once():
    statement = Statement(text("SELECT :x"))

    assert statement.text(SQLITE) is statement.text(SQLITE)


def test_run_says_how_many_rows_changed(tx):
    assert [tx.run(Statement(text("INSERT INTO t VALUES (:x), (:x)")), x=1)] == [2]
    assert tx.run(Statement(text("UPDATE t SET x = :y WHERE x = :x")), x=1, y=2) == 2
    assert tx.run(Statement(text("DELETE FROM t WHERE x = :x")), x=1) == 0


def test_rows_returns_what_a_statement_selects_or_returns(tx):
    assert tx.rows(Statement(text("INSERT INTO t VALUES (:x) RETURNING x")), x="a") == [("a",)]
    assert tx.rows(Statement(text("SELECT x FROM t WHERE x = :x")), x="b") == []


def test_the_dialect_is_known_to_a_transition(tx):
    assert tx.dialect == "sqlite"


def test_a_value_inside_the_statement_is_refused_by_its_name():
    statement = Statement(update(schema.tasks).values(state="queued"))

    with pytest.raises(TypeError, match=r"as named parameters: \['state'\] in UPDATE"):
        statement.text(SQLITE)


def test_a_database_that_is_not_supported_is_refused_by_its_name():
    with pytest.raises(ValueError, match="no ledger for 'mysql'; known: sqlite"):
        dialect_named("mysql")


@pytest.mark.parametrize("name", STATEMENTS)
def test_every_statement_of_the_transitions_takes_all_its_values_by_name(name):
    assert "?" not in STATEMENTS[name].text(SQLITE)
