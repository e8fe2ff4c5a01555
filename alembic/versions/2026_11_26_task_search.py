"""Add the text that searches compare, and the indexes of the orders of lists.

Locks: ACCESS EXCLUSIVE on tasks for a moment; then SHARE, so that writes wait, while each index is
built: about a second for a million rows.

The text stays null: Python computes it. ``twofold migrate`` does that afterwards, in steps, and a
search compares itself what has none.
"""

from __future__ import annotations

from alembic import op

revision = "2026_11_26_task_search"
down_revision = "2026_11_26_task_fields"
branch_labels = None
depends_on = None

_INDEXES = {
    "ix_tasks_user_id_updated_at_id": "updated_at",
    "ix_tasks_user_id_priority_id": "priority",
    "ix_tasks_user_id_due_id": (
        "coalesce(due_at, timezone('UTC', due_day::timestamp),"
        " 'infinity'::timestamp with time zone)"
    ),
}


def upgrade() -> None:
    """Add the columns, without values, and build the indexes."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.execute("ALTER TABLE tasks ADD COLUMN search_text text, ADD COLUMN search_version integer")
    # In the row itself: a search of ten thousand long texts takes half as long.
    op.execute("ALTER TABLE tasks ALTER COLUMN search_text SET STORAGE MAIN")
    for name, key in _INDEXES.items():
        op.execute(f"CREATE INDEX {name} ON tasks (user_id, {key}, id)")


def downgrade() -> None:
    """Drop the indexes, and the text."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    for name in _INDEXES:
        op.execute(f"DROP INDEX {name}")
    op.execute("ALTER TABLE tasks DROP COLUMN search_text, DROP COLUMN search_version")
