"""Which statements of an application's engine need the write lock."""

from __future__ import annotations

import pytest

from postlude.ledger.lending import writes


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT 1",
        "  select id FROM orders WHERE name = 'UPDATE'",
        "-- by whom\n/* and\nwhy */ SELECT 1",
        "VALUES (1)",
        "EXPLAIN QUERY PLAN DELETE FROM orders",
        "PRAGMA journal_mode",
        "WITH RECURSIVE n(x) AS (SELECT 1) SELECT x FROM n",
        "VACUUM",
        "ATTACH 'other.db' AS other",
        "BEGIN",
        "COMMIT",
        "ROLLBACK",
    ],
)
def test_reading_and_what_cannot_be_in_a_transaction_does_not(statement):
    assert not writes(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO orders VALUES (1) RETURNING id",
        "update orders SET name = 'a'",
        "DELETE FROM orders",
        "REPLACE INTO orders VALUES (1)",
        "WITH gone AS (SELECT 1) DELETE FROM orders WHERE id IN gone",
        "WITH n AS (SELECT 1)\ninsert INTO orders SELECT * FROM n",
        "CREATE TABLE orders (id)",
        "SAVEPOINT sa_savepoint_1",
        "SELECTED",
        "",
        "/* SELECT */ DELETE FROM orders",
    ],
)
def test_everything_else_does(statement):
    assert writes(statement)
