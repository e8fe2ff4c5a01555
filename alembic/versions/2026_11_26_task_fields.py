"""Add due, priority, tags and completed_at to tasks.

Locks: ACCESS EXCLUSIVE on tasks while each row is read once, for the constraints: about 0.2 s for
a million rows. None is written, because the defaults are constants.

The release before neither writes nor reads the columns. What it completes has no completed_at;
readers take updated_at for it (``persistence.task_columns``).
"""

from __future__ import annotations

from alembic import op

revision = "2026_11_26_task_fields"
down_revision = "2026_11_26_idempotency_keys"
branch_labels = None
depends_on = None

_COLUMNS = {
    "due_day": "date",
    "due_at": "timestamptz",
    "priority": "smallint DEFAULT 0 NOT NULL",
    "tags": "text[] DEFAULT '{}' NOT NULL",
    "tag_keys": "text[] DEFAULT '{}' NOT NULL",
    "completed_at": "timestamptz",
}
_CHECKS = {
    "one_due": "num_nonnulls(due_day, due_at) <= 1",
    "due_day_years": "due_day BETWEEN '0001-01-01' AND '9999-12-31'",
    "due_at_years": "due_at >= '0001-01-01T00:00:00Z' AND due_at < '10000-01-01T00:00:00Z'",
    "priority_known": "priority BETWEEN 0 AND 3",
    "tags_number": "cardinality(tags) <= 20 AND cardinality(tag_keys) = cardinality(tags)",
}


def upgrade() -> None:
    """Add the columns, each with a constant as its default."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    # One statement, so that the rows are read once.
    parts = [
        *(f"ADD COLUMN {name} {kind}" for name, kind in _COLUMNS.items()),
        *(f"ADD CONSTRAINT ck_tasks_{name} CHECK ({check})" for name, check in _CHECKS.items()),
    ]
    op.execute(f"ALTER TABLE tasks {', '.join(parts)}")


def downgrade() -> None:
    """Drop the columns with what they hold."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    for name in _CHECKS:
        op.drop_constraint(op.f(f"ck_tasks_{name}"), "tasks", type_="check")
    for name in _COLUMNS:
        op.drop_column("tasks", name)
