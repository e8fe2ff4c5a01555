"""The tables this service owns, the names of their constraints, and their indexes."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    ARRAY,
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Identity,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    cast,
    false,
    func,
    literal_column,
    text,
)

TITLE_LENGTH: Final = 200
"""The longest title, in code points."""

DESCRIPTION_LENGTH: Final = 1000
"""The longest description, in code points."""

PRIORITIES: Final = ("none", "low", "medium", "high")
"""The priorities. The place of each is the number that is stored, so that they order."""

MAX_TAGS: Final = 20
"""The most tags of a task."""

TAG_LENGTH: Final = 50
"""The longest tag, in code points."""

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    }
)

tasks = Table(
    "tasks",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    # Text, and no foreign key: the auth server owns the users and the form of their ids.
    Column("user_id", Text, nullable=False),
    Column("title", String(TITLE_LENGTH), nullable=False),
    Column("description", Text),
    Column("completed", Boolean, nullable=False, server_default=false()),
    Column("version", Integer, nullable=False, server_default=text("1")),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    # The number of the last change, given by a trigger (``feeds``). 0 is from before the feeds.
    Column("seq", BigInteger, nullable=False, server_default=text("0")),
    # When the task was put into the trash; null for a task that lives.
    Column("deleted_at", DateTime(timezone=True)),
    # A task is due on a day, at a moment, or not at all.
    Column("due_day", Date),
    Column("due_at", DateTime(timezone=True)),
    Column("priority", SmallInteger, nullable=False, server_default=text("0")),
    Column("tags", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    # The tags as they are compared. Python makes them (``task_fields.tag_key``).
    Column("tag_keys", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    # Read it with ``task_columns``: the release before does not write it.
    Column("completed_at", DateTime(timezone=True)),
    # Title and description as a search compares them, and the version that they are those of: the
    # release before does not write them (``task_columns``, ``search``).
    Column("search_text", Text),
    Column("search_version", Integer),
    CheckConstraint("char_length(title) >= 1", name="title_not_empty"),
    CheckConstraint(f"char_length(description) <= {DESCRIPTION_LENGTH}", name="description_length"),
    CheckConstraint("version >= 1", name="version_positive"),
    CheckConstraint("num_nonnulls(due_day, due_at) <= 1", name="one_due"),
    # The years 1 to 9999, and no infinity.
    CheckConstraint("due_day BETWEEN '0001-01-01' AND '9999-12-31'", name="due_day_years"),
    CheckConstraint(
        "due_at >= '0001-01-01T00:00:00Z' AND due_at < '10000-01-01T00:00:00Z'", name="due_at_years"
    ),
    CheckConstraint(f"priority BETWEEN 0 AND {len(PRIORITIES) - 1}", name="priority_known"),
    CheckConstraint(
        f"cardinality(tags) <= {MAX_TAGS} AND cardinality(tag_keys) = cardinality(tags)",
        name="tags_number",
    ),
    # Of the release before, which does not know the mark, and serves while this one is rolled out.
    # The next release drops it.
    Index(None, "user_id", "created_at", "id"),
)

LIVES: Final = tasks.c.deleted_at.is_(None)
"""Whether a task is not in the trash."""

DUE_KEY: Final = func.coalesce(
    tasks.c.due_at,
    func.timezone(literal_column("'UTC'"), cast(tasks.c.due_day, DateTime)),
    cast(literal_column("'infinity'"), DateTime(timezone=True)),
)
"""When a task is due, for orders: a day counts as its beginning in UTC, and none comes last."""

_LIVING: Final[dict[str, Any]] = {"postgresql_where": LIVES, "postgresql_concurrently": True}

ONLINE_INDEXES: Final = (
    # The orders of each owner's list (``task_lists.KEYS``). PostgreSQL reads an index in both
    # directions. They have only what lives, so that a page costs the same however full the
    # trash is.
    Index("ix_tasks_living", tasks.c.user_id, tasks.c.created_at, tasks.c.id, **_LIVING),
    Index("ix_tasks_living_updated", tasks.c.user_id, tasks.c.updated_at, tasks.c.id, **_LIVING),
    Index("ix_tasks_living_priority", tasks.c.user_id, tasks.c.priority, tasks.c.id, **_LIVING),
    Index("ix_tasks_living_due", tasks.c.user_id, DUE_KEY, tasks.c.id, **_LIVING),
    # The order of the changes.
    Index("ix_tasks_seq", tasks.c.user_id, tasks.c.seq, tasks.c.id, postgresql_concurrently=True),
    # The order of the trash.
    Index(
        "ix_tasks_trash",
        tasks.c.user_id,
        tasks.c.deleted_at,
        tasks.c.id,
        postgresql_where=~LIVES,
        postgresql_concurrently=True,
    ),
    # What has been in the trash for longest, whoever owns it.
    Index(
        "ix_tasks_deleted_at",
        tasks.c.deleted_at,
        postgresql_where=~LIVES,
        postgresql_concurrently=True,
    ),
)
"""Indexes that are built while the service runs (``persistence.online_indexes``)."""

KEY_LENGTH: Final = 255
"""The longest idempotency key, in characters."""

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("key", String(KEY_LENGTH), primary_key=True),
    # A digest of the request, which a repeat must have as well.
    Column("fingerprint", Text, nullable=False),
    # The rows that the write returned. JSON and not JSONB, because nothing looks into it.
    Column("outcome", JSON, nullable=False),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    Index(None, "expires_at"),
)

feeds = Table(
    "feeds",
    metadata,
    # The empty id is nobody's: its row has the epoch of everybody who has no row yet.
    Column("user_id", Text, primary_key=True),
    # Of another history, of which numbers say nothing in this one.
    Column("epoch", BigInteger, nullable=False),
    # The number of the person's last change.
    Column("seq", BigInteger, nullable=False, server_default=text("0")),
    # Who knows only changes before this number has to start anew.
    Column("floor", BigInteger, nullable=False, server_default=text("0")),
    postgresql_with={"fillfactor": 50},
)
"""For each person a counter of changes, which the triggers of ``tasks`` advance.

A transaction takes a number under the lock of the person's row, and keeps the lock until its
commit. So for each person the order of the numbers is the order of the commits, whoever writes.
"""

WRITTEN_TABLES: Final = (tasks, idempotency_keys)
"""The tables that serving reads and writes."""

OWN_TABLES: Final = (*WRITTEN_TABLES, feeds)
"""The tables that serving reads."""

FUNCTIONS: Final = {
    "twofold_feed_number(text)": False,
    "twofold_stamp_task()": True,
    "twofold_raise_floors()": True,
    "twofold_new_epoch()": True,
}
"""The functions of the triggers, and whether each finds our tables by a search path of its own."""

VERSION_TABLE: Final = "twofold_alembic_version"
"""The table with the revision of our schema. Other applications use Alembic's usual name."""
