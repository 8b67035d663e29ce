"""Alembic's entry: runs the migrations in the transaction that :mod:`postlude.ledger.migrate` opened.

One migrator at a time: that transaction has the write lock before Alembic looks at its version table,
so a second one waits and then finds nothing to do.
"""

from alembic import context

attributes = context.config.attributes
context.configure(
    connection=attributes["connection"],
    version_table=attributes.get("version_table", "postlude_alembic_version"),
)
context.run_migrations()
