"""Analytics: events, their roll-ups, and the hours whose roll-up is out of date."""

import sqlalchemy as sa
from alembic import op

revision = "analytics_0001"
down_revision = None


def upgrade() -> None:
    """Create every table."""
    op.create_table(
        "events",
        sa.Column("id", sa.String(length=100), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("hour", sa.BigInteger(), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("events_hour", "events", ["hour", "name"])
    op.create_index("events_recorded", "events", ["recorded_at", "id"])
    op.create_table(
        "event_rollups",
        sa.Column("hour", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("archived", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("hour", "name"),
    )
    op.create_table(
        "event_stale_hours",
        sa.Column("hour", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("hour"),
    )


def downgrade() -> None:
    """Drop every table, with all that is in it."""
    for table in ("event_stale_hours", "event_rollups", "events"):
        op.drop_table(table)
