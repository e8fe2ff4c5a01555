"""What changed of a viewer's tasks, in the order of the changes; knows no HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from persistence import feed_sql
from persistence.database import Database
from persistence.field_types import MAX_ID
from persistence.sql import Record
from persistence.sync_tokens import Head, SyncToken, history, split_head
from persistence.task_columns import NAMES
from persistence.task_fields import DeletedTask, Task
from persistence.viewer import Viewer


class Changes(NamedTuple):
    """Tasks that changed, each as it is now, in the order of their last change.

    Attributes:
        token: what the client has once it applied these.
        has_more: whether there are more after them.
    """

    tasks: list[Task]
    token: SyncToken
    has_more: bool


async def changes(db: Database, viewer: Viewer, since: SyncToken | None, limit: int) -> Changes:
    """The viewer's tasks that changed after a token; exactly ``limit`` if there are more.

    Args:
        since: ``None`` for all tasks that the viewer has.

    Raises:
        SyncTokenExpired: what changed after the token is not known any more.
    """
    start, seq, task_id = (since.start, since.seq, since.id) if since else _BEFORE_ALL
    # One more than the limit shows whether there is more.
    head, rows = split_head(
        await db.read(
            feed_sql.CHANGES,
            user_id=viewer.user_id,
            start=start,
            seq=seq,
            id=task_id,
            limit=limit + 1,
        )
    )
    if since:
        since.require_current(head, viewer.user_id)
    tasks = [_task(row) for row in rows[:limit]]
    if len(rows) <= limit:
        return Changes(tasks, head.token(viewer.user_id), has_more=False)
    number, last = rows[limit - 1][len(NAMES) + 1], tasks[-1].id
    start = since.start if since else head.seq
    token = SyncToken(history(head.epoch, viewer.user_id), start, number, last)
    return Changes(tasks, token, has_more=True)


def _task(row: Record) -> Task:
    values, deleted_at = row[: len(NAMES)], row[len(NAMES)]
    return Task(*values) if deleted_at is None else DeletedTask(*values, deleted_at=deleted_at)


async def first_changes(
    db: Database, viewer: Viewer, since: SyncToken | None, limit: int
) -> Changes:
    """What a stream begins with: what changed after a token, or without one nothing, from now on.

    Raises:
        SyncTokenExpired: what changed after the token is not known any more.
    """
    if since is None:
        return Changes([], await _head(db, viewer), has_more=False)
    return await changes(db, viewer, since, limit)


async def _head(db: Database, viewer: Viewer) -> SyncToken:
    """The token of what changes from now on."""
    [record] = await db.read(feed_sql.HEAD, user_id=viewer.user_id)
    return Head(*record).token(viewer.user_id)


async def heads(db: Database, user_ids: Sequence[str]) -> dict[str, SyncToken]:
    """The same of many people, by their ids; not of those who never changed anything."""
    records = await db.read(feed_sql.HEADS, user_ids=list(user_ids))
    return {user_id: Head(*state).token(user_id) for user_id, *state in records}


async def reset(db: Database) -> None:
    """Give every feed another epoch, so that all tokens expire."""
    await db.write(feed_sql.RESET)


# Who begins now has nothing that was deleted before.
_BEFORE_ALL: Final = (MAX_ID, 0, 0)
