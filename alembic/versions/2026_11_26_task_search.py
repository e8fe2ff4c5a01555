"""Add the text that searches compare.

Locks: ACCESS EXCLUSIVE on tasks for a moment.

The text stays null: Python computes it. ``twofold migrate`` does that afterwards, in steps, and a
search compares itself what has none.
"""

from __future__ import annotations

from alembic import op

revision = "2026_11_26_task_search"
down_revision = "2026_11_26_task_fields"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns, without values."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.execute("ALTER TABLE tasks ADD COLUMN search_text text, ADD COLUMN search_version integer")
    # In the row itself: a search of ten thousand long texts takes half as long.
    op.execute("ALTER TABLE tasks ALTER COLUMN search_text SET STORAGE MAIN")


def downgrade() -> None:
    """Drop the text."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.execute("ALTER TABLE tasks DROP COLUMN search_text, DROP COLUMN search_version")
