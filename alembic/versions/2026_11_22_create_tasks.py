"""Create the table of tasks.

Locks: none that another session can wait for, because the table is new.
"""

from __future__ import annotations

import sqlalchemy as sa

from alembic import context, op
from persistence.migrations import CannotMigrate

revision = "2026_11_22_create_tasks"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table, unless there is one that these migrations did not create."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    require_no_other_table()
    op.create_table(
        "tasks",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("title", sa.String(length=200), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("completed", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.func.now(),
            nullable=False,
        ),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            server_default=sa.func.now(),
            nullable=False,
        ),
        sa.CheckConstraint("char_length(title) >= 1", name=op.f("ck_tasks_title_not_empty")),
        sa.CheckConstraint(
            "char_length(description) <= 1000", name=op.f("ck_tasks_description_length")
        ),
        sa.CheckConstraint("version >= 1", name=op.f("ck_tasks_version_positive")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tasks")),
    )
    op.create_index(
        op.f("ix_tasks_user_id_created_at_id"), "tasks", ["user_id", "created_at", "id"]
    )


def downgrade() -> None:
    """Drop the table with all tasks."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.drop_table("tasks")


def require_no_other_table() -> None:
    """Raise CannotMigrate if there is a table that these migrations did not create."""
    if context.is_offline_mode():
        return
    if op.get_bind().scalar(sa.text("SELECT to_regclass('tasks') IS NOT NULL")):
        raise CannotMigrate(
            "The database has a table tasks already, and Twofold's migrations did not make it. "
            "To adopt its rows, rename it (ALTER TABLE tasks RENAME TO tasks_before), migrate "
            "again, and copy them over (user_id, title, description, completed). If it is "
            "Twofold's own, restored without its twofold_alembic_version, say which revision it "
            f"has: twofold stamp {context.script.get_current_head()}, or an earlier one, if the "
            "back-up is of an earlier release."
        )
