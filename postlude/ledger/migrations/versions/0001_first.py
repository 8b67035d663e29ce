"""First schema: tasks, attempts, keys, incarnations, actors, schedules, ticks."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create every table."""
    _tasks()
    _task_indexes()
    _attempts()
    _deleted()
    _keys()
    _processes()
    _schedules()
    meta = op.create_table(
        "postlude_meta",
        sa.Column("id", sa.SmallInteger(), primary_key=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("compatible_from", sa.Integer(), nullable=False),
    )
    op.bulk_insert(meta, [{"id": 1, "version": 1, "compatible_from": 1}])


def _tasks() -> None:
    op.create_table(
        "postlude_tasks",
        sa.Column(
            "seq",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("arguments", sa.Text(), nullable=False),
        sa.Column("options", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=9), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("run_at", sa.BigInteger(), nullable=True),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("token", sa.String(length=36), nullable=True),
        sa.Column("owner", sa.String(length=36), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("retries", sa.Integer(), nullable=False),
        sa.Column("crashes", sa.Integer(), nullable=False),
        sa.Column("suspect", sa.SmallInteger(), nullable=False),
        sa.Column("cancel_requested", sa.SmallInteger(), nullable=False),
        sa.Column("result", sa.Text(), nullable=True),
        sa.Column("progress", sa.Text(), nullable=True),
        sa.Column("correlation_id", sa.Text(), nullable=True),
        sa.Column("trace_context", sa.Text(), nullable=True),
        sa.Column("waits_for", sa.String(length=36), nullable=True),
        sa.Column("followed", sa.SmallInteger(), nullable=False),
        sa.Column("group_id", sa.String(length=36), nullable=True),
        sa.Column("pipe_into", sa.Text(), nullable=True),
        sa.Column("published_at", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("renewed_at", sa.BigInteger(), nullable=True),
        sa.Column("claimed_at", sa.BigInteger(), nullable=True),
        sa.Column("started_at", sa.BigInteger(), nullable=True),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.Column("duplicate_of", sa.String(length=36), nullable=True),
        sa.PrimaryKeyConstraint("seq"),
    )


def _task_indexes() -> None:
    op.create_index("postlude_tasks_actor", "postlude_tasks", ["actor", "seq"])
    op.create_index(
        "postlude_tasks_due",
        "postlude_tasks",
        ["run_at"],
        sqlite_where=sa.text("state = 'scheduled'"),
        postgresql_where=sa.text("state = 'scheduled'"),
    )
    op.create_index(
        "postlude_tasks_finished",
        "postlude_tasks",
        ["state", "finished_at"],
        sqlite_where=sa.text(
            "finished_at IS NOT NULL AND (waits_for IS NULL OR reason IS NOT 'upstream-failed')"
        ),
        postgresql_where=sa.text(
            "finished_at IS NOT NULL"
            " AND (waits_for IS NULL OR reason IS DISTINCT FROM 'upstream-failed')"
        ),
    )
    op.create_index("postlude_tasks_id", "postlude_tasks", ["id"], unique=True)
    op.create_index(
        "postlude_tasks_members",
        "postlude_tasks",
        ["group_id"],
        sqlite_where=sa.text("group_id IS NOT NULL AND finished_at IS NULL"),
        postgresql_where=sa.text("group_id IS NOT NULL AND finished_at IS NULL"),
    )
    op.create_index(
        "postlude_tasks_owner",
        "postlude_tasks",
        ["owner"],
        sqlite_where=sa.text("owner IS NOT NULL"),
        postgresql_where=sa.text("owner IS NOT NULL"),
    )
    op.create_index("postlude_tasks_queue", "postlude_tasks", ["queue", "seq"])
    op.create_index(
        "postlude_tasks_ready",
        "postlude_tasks",
        ["queue", "suspect", "priority", "seq", "actor"],
        sqlite_where=sa.text("state = 'queued'"),
        postgresql_where=sa.text("state = 'queued'"),
    )
    op.create_index("postlude_tasks_state", "postlude_tasks", ["state", "seq"])
    op.create_index(
        "postlude_tasks_waiting",
        "postlude_tasks",
        ["waits_for"],
        sqlite_where=sa.text("waits_for IS NOT NULL"),
        postgresql_where=sa.text("waits_for IS NOT NULL"),
    )


def _attempts() -> None:
    op.create_table(
        "postlude_attempts",
        sa.Column(
            "task",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("worker", sa.String(length=36), nullable=False),
        sa.Column("claimed_at", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=True),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("error_type", sa.Text(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("traceback", sa.Text(), nullable=True),
        sa.Column("fingerprint", sa.String(16), nullable=True),
        sa.Column("logs", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["task"], ["postlude_tasks.seq"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("task", "number"),
    )


def _deleted() -> None:
    op.create_table(
        "postlude_deleted",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("deleted_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("postlude_deleted_at", "postlude_deleted", ["deleted_at"])


def _keys() -> None:
    op.create_table(
        "postlude_keys",
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("task", sa.String(length=36), nullable=False),
        sa.Column("held", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("fingerprint", sa.String(length=64), nullable=True),
        sa.Column("answer", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("scope", "key"),
    )
    op.create_index(
        "postlude_keys_expiry",
        "postlude_keys",
        ["expires_at"],
        sqlite_where=sa.text("expires_at IS NOT NULL"),
        postgresql_where=sa.text("expires_at IS NOT NULL"),
    )
    op.create_index("postlude_keys_task", "postlude_keys", ["task"])


def _processes() -> None:
    op.create_table(
        "postlude_incarnations",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("queues", sa.Text(), nullable=False),
        sa.Column("heartbeat", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("beat_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("end", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "postlude_incarnations_alive",
        "postlude_incarnations",
        ["id"],
        sqlite_where=sa.text("ended_at IS NULL"),
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.create_table(
        "postlude_actors",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.String(length=16), nullable=False),
        sa.Column("incarnation", sa.String(length=36), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("options", sa.Text(), nullable=False),
        sa.Column("schema", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", "fingerprint", "incarnation"),
    )


def _schedules() -> None:
    op.create_table(
        "postlude_schedules",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("incarnation", sa.String(length=36), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("arguments", sa.Text(), nullable=False),
        sa.Column("options", sa.Text(), nullable=False),
        sa.Column("trigger", sa.Text(), nullable=False),
        sa.Column("timezone", sa.Text(), nullable=False),
        sa.Column("misfire", sa.Text(), nullable=False),
        sa.Column("misfire_window", sa.BigInteger(), nullable=False),
        sa.Column("overlap", sa.Text(), nullable=False),
        sa.Column("jitter", sa.BigInteger(), nullable=False),
        sa.Column("declared_by", sa.Text(), nullable=False),
        sa.Column("next_at", sa.BigInteger(), nullable=True),
        sa.Column("last_at", sa.BigInteger(), nullable=True),
        sa.Column("paused", sa.SmallInteger(), nullable=False),
        sa.Column("broken", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "postlude_schedules_due",
        "postlude_schedules",
        ["next_at"],
        sqlite_where=sa.text("next_at IS NOT NULL"),
        postgresql_where=sa.text("next_at IS NOT NULL"),
    )
    op.create_table(
        "postlude_ticks",
        sa.Column("schedule", sa.Text(), nullable=False),
        sa.Column("incarnation", sa.String(length=36), nullable=False),
        sa.Column("scheduled_for", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("ticked_at", sa.BigInteger(), nullable=False),
        sa.Column("task", sa.String(length=36), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("schedule", "incarnation", "scheduled_for"),
    )
    op.create_index("postlude_ticks_task", "postlude_ticks", ["task"])


def downgrade() -> None:
    """Drop every table, and with them every task."""
    for name in (
        "meta",
        "ticks",
        "schedules",
        "actors",
        "incarnations",
        "keys",
        "deleted",
        "attempts",
        "tasks",
    ):
        op.drop_table(f"postlude_{name}")
