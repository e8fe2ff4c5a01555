"""Mark deleted tasks instead of deleting their rows.

Locks: ACCESS EXCLUSIVE on tasks for a moment, because the new column is null in every row. Its
indexes are built afterwards, while the service writes (``persistence.online_indexes``).

The previous release serves on: it shows tasks that this one has put into the trash, and what it
deletes itself is gone for good.
"""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "2026_11_26_trash"
down_revision = "2026_11_26_task_search"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the mark."""
    # While this waits for a lock, every request waits behind it: fail instead after two seconds.
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.add_column("tasks", sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    """Empty everybody's trash, whose tasks would live again, and drop the mark with its indexes."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.execute("DELETE FROM tasks WHERE deleted_at IS NOT NULL")
    op.drop_column("tasks", "deleted_at")
