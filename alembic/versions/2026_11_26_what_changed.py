"""Number every change of a task, for each person in the order of the commits.

Clients that follow the changes of tasks read them by these numbers. The triggers give them, so
that no writer can forget it: the release before, and statements typed by hand, are numbered too.

Locks: ACCESS EXCLUSIVE on tasks for a moment. Tasks that exist keep the number 0 until they change;
none is rewritten. The index is built afterwards (``persistence.online_indexes``).
"""

from __future__ import annotations

import sqlalchemy as sa

from alembic import context, op
from persistence.migrations import CannotMigrate

revision = "2026_11_26_what_changed"
down_revision = "2026_11_26_trash"
branch_labels = None
depends_on = None

# The row of a person is locked until the commit, so that the next number is given after it. A
# transaction has one number for each person, however many tasks it changes: to change a row many
# times in one transaction takes quadratic time. It is the writer of the row in the version that
# it sees if xmin is its own id. The ids of transactions are reused after 2^32 others.
NUMBER = """
CREATE FUNCTION twofold_feed_number(owner text) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    this CONSTANT xid := pg_current_xact_id()::xid;
    number bigint;
BEGIN
    UPDATE feeds SET seq = seq + 1 WHERE user_id = owner AND xmin <> this
        RETURNING seq INTO number;
    IF NOT FOUND THEN
        SELECT seq INTO number FROM feeds WHERE user_id = owner AND xmin = this;
    END IF;
    IF NOT FOUND THEN
        INSERT INTO feeds AS feed (user_id, epoch, seq)
            VALUES (owner, coalesce((SELECT epoch FROM feeds WHERE user_id = ''), 0), 1)
            ON CONFLICT (user_id) DO UPDATE SET seq = feed.seq + 1
            RETURNING seq INTO number;
    END IF;
    RETURN number;
END $$
"""

# What searches compare is no change of a task: ``persistence.search_texts`` stores it later, of
# many people at once. A task that changes its owner is new to one person, and gone for the other,
# like one that is deleted. Of two persons the rows are locked in the order of their ids. Rows are
# read as JSON, because a session's plan for a field fails when the type of its column changes.
STAMP = """
CREATE FUNCTION twofold_stamp_task() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    task CONSTANT jsonb := to_jsonb(NEW) - '{search_text,search_version}'::text[];
    owner CONSTANT text := task ->> 'user_id';
    before jsonb;
    gone bigint;
BEGIN
    IF TG_OP = 'UPDATE' THEN
        before := to_jsonb(OLD) - '{search_text,search_version}'::text[];
        IF before = task THEN
            RETURN NEW;
        END IF;
        IF before ->> 'user_id' <> owner THEN
            PERFORM twofold_feed_number(least(before ->> 'user_id', owner));
            gone := twofold_feed_number(before ->> 'user_id');
            UPDATE feeds SET floor = gone WHERE user_id = before ->> 'user_id' AND floor < gone;
        END IF;
    END IF;
    NEW.seq := twofold_feed_number(owner);
    RETURN NEW;
END $$
"""

# Nobody can be told about a task that is not there: who has an earlier position starts anew. Of a
# task in the trash the deletion was a change: who knows that change misses nothing.
RAISE_FLOORS = """
CREATE FUNCTION twofold_raise_floors() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO feeds AS feed (user_id, epoch, seq, floor)
        SELECT user_id, coalesce((SELECT epoch FROM feeds WHERE user_id = ''), 0), living,
            greatest(living, last)
        FROM (
            SELECT user_id, CASE WHEN bool_or(deleted_at IS NULL) THEN 1 ELSE 0 END AS living,
                max(seq) AS last
            FROM gone GROUP BY user_id
        ) AS owners ORDER BY user_id
        ON CONFLICT (user_id) DO UPDATE SET seq = feed.seq + excluded.seq, floor = CASE
            WHEN excluded.seq > 0 THEN feed.seq + 1 ELSE greatest(feed.floor, excluded.floor) END;
    RETURN NULL;
END $$
"""

NEW_EPOCH = """
CREATE FUNCTION twofold_new_epoch() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    UPDATE feeds SET epoch = (random() * 2147483647)::bigint;
    RETURN NULL;
END $$
"""

# Last of the triggers, which fire in the order of their names: other triggers of the operator's
# may change the row as well.
TRIGGERS = (
    "CREATE TRIGGER zz_twofold_feed BEFORE INSERT OR UPDATE ON tasks"
    " FOR EACH ROW EXECUTE FUNCTION twofold_stamp_task()",
    "CREATE TRIGGER zz_twofold_feed_deletion AFTER DELETE ON tasks"
    " REFERENCING OLD TABLE AS gone EXECUTE FUNCTION twofold_raise_floors()",
    "CREATE TRIGGER zz_twofold_feed_truncation AFTER TRUNCATE ON tasks"
    " EXECUTE FUNCTION twofold_new_epoch()",
)

# These run with the rights of the tables' owner, because a role that serves an earlier release has
# none on the new table. So no other schema may come before ours.
OWNED = ("twofold_stamp_task", "twofold_raise_floors", "twofold_new_epoch")


def upgrade() -> None:
    """Create the table of feeds, the tasks' numbers, and the triggers that give them."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    require_no_other_table()
    op.create_table(
        "feeds",
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("floor", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_feeds")),
        # Each version of a row fits beside the one before.
        postgresql_with={"fillfactor": 50},
    )
    # The epoch of everybody who has no row yet.
    op.execute("INSERT INTO feeds (user_id, epoch) VALUES ('', (random() * 2147483647)::bigint)")
    op.add_column(
        "tasks", sa.Column("seq", sa.BigInteger(), server_default=sa.text("0"), nullable=False)
    )
    for statement in (NUMBER, STAMP, RAISE_FLOORS, NEW_EPOCH):
        op.execute(statement)
    for name in OWNED:
        op.execute(
            f"DO $$ BEGIN EXECUTE 'ALTER FUNCTION {name}() SET search_path = pg_catalog, '"
            " || quote_ident(current_schema()) || ', pg_temp'; END $$"
        )
    for statement in TRIGGERS:
        op.execute(statement)


def downgrade() -> None:
    """Drop the numbers: clients that follow the changes start anew."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    for name in ("zz_twofold_feed", "zz_twofold_feed_deletion", "zz_twofold_feed_truncation"):
        op.execute(f"DROP TRIGGER {name} ON tasks")
    for name in (*OWNED, "twofold_feed_number"):
        op.execute(f"DROP FUNCTION {name}")
    op.drop_column("tasks", "seq")
    op.drop_table("feeds")


def require_no_other_table() -> None:
    """Raise CannotMigrate if there is a table that these migrations did not create."""
    if context.is_offline_mode():
        return
    if op.get_bind().scalar(sa.text("SELECT to_regclass('feeds') IS NOT NULL")):
        raise CannotMigrate(
            "The database has a table feeds already, and Twofold's migrations did not make it. "
            "Rename it (ALTER TABLE feeds RENAME TO other_feeds), or set DATABASE_SCHEMA, so that "
            "Twofold's tables have a schema of their own."
        )
