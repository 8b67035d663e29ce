"""Alembic's entry: runs the migrations on the connection that :mod:`postlude.ledger.migrate` lends.

One migrator at a time: the write lock is taken before Alembic looks at its version table, so a second
one waits and then finds nothing to do.
"""

from alembic import context

from postlude.ledger.schema import metadata

connection = context.config.attributes["connection"]
connection.exec_driver_sql("ROLLBACK") if connection.in_transaction() else None
context.configure(
    connection=connection,
    target_metadata=metadata,
    version_table="postlude_alembic_version",
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
