"""Cache: one row a key, with the lease of whoever is loading it."""

import sqlalchemy as sa
from alembic import op

revision = "cache_0001"
down_revision = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "cache",
        sa.Column("key", sa.String(length=100), nullable=False),
        sa.Column("value", sa.Text(), nullable=True),
        sa.Column("as_of", sa.BigInteger(), nullable=True),
        sa.Column("holder", sa.String(length=36), nullable=True),
        sa.Column("loading_since", sa.BigInteger(), nullable=True),
        sa.Column("held_until", sa.BigInteger(), nullable=True),
        sa.Column("wanted", sa.BigInteger(), nullable=True),
        sa.Column("asked_at", sa.BigInteger(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("failed_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("key"),
    )


def downgrade() -> None:
    """Drop the table: everything in it can be loaded again."""
    op.drop_table("cache")
