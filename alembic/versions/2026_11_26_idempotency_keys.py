"""Create the table of idempotency keys.

Locks: none that another session can wait for, because the table is new.
"""

from __future__ import annotations

import sqlalchemy as sa

from alembic import context, op
from persistence.migrations import CannotMigrate

revision = "2026_11_26_idempotency_keys"
down_revision = "2026_11_22_create_tasks"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table, unless there is one that these migrations did not create."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    require_no_other_table()
    op.create_table(
        "idempotency_keys",
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("outcome", sa.JSON(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "key", name=op.f("pk_idempotency_keys")),
    )
    op.create_index(op.f("ix_idempotency_keys_expires_at"), "idempotency_keys", ["expires_at"])


def downgrade() -> None:
    """Drop the table: a write that is repeated afterwards is done again."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.drop_table("idempotency_keys")


def require_no_other_table() -> None:
    """Raise CannotMigrate if there is a table that these migrations did not create."""
    if context.is_offline_mode():
        return
    if op.get_bind().scalar(sa.text("SELECT to_regclass('idempotency_keys') IS NOT NULL")):
        raise CannotMigrate(
            "The database has a table idempotency_keys already, and Twofold's migrations did not "
            "make it. Rename it (ALTER TABLE idempotency_keys RENAME TO other_idempotency_keys), "
            "or set DATABASE_SCHEMA, so that Twofold's tables have a schema of their own."
        )
