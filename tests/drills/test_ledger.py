"""The ledger fails a drill for everything that a service must not do to a task."""

from __future__ import annotations

import asyncpg
import pytest

from tests.drills.ledger import ABSENT, Ledger


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@pytest.fixture
def title(ledger: Ledger) -> str:
    """Of a task that somebody is about to create."""
    return ledger.new_title()


async def store(sql: asyncpg.Connection, title: str, version: int = 1) -> None:
    await sql.execute(
        "INSERT INTO tasks (user_id, title, version) VALUES ('ada', $1, $2)", title, version
    )


async def test_an_acknowledged_task_must_be_stored(
    ledger: Ledger, title: str, sql: asyncpg.Connection
) -> None:
    ledger.acknowledged(title, 1)

    with pytest.raises(AssertionError, match=title):
        await ledger.assert_stored(sql)

    await store(sql, title)
    await ledger.assert_stored(sql)


async def test_an_unacknowledged_task_may_be_stored_but_only_once(
    ledger: Ledger, title: str, sql: asyncpg.Connection
) -> None:
    ledger.sent(title, 1)
    await ledger.assert_stored(sql)
    await store(sql, title)
    await ledger.assert_stored(sql)
    assert ledger.unconfirmed == [title]

    await store(sql, title)
    with pytest.raises(AssertionError, match=title):
        await ledger.assert_stored(sql)


async def test_an_acknowledged_change_must_not_be_lost(
    ledger: Ledger, title: str, sql: asyncpg.Connection
) -> None:
    await store(sql, title, version=1)
    ledger.acknowledged(title, 1)
    ledger.sent(title, 2)
    await ledger.assert_stored(sql)

    ledger.acknowledged(title, 2)
    with pytest.raises(AssertionError, match=title):
        await ledger.assert_stored(sql)


async def test_an_acknowledged_deletion_must_not_come_back(
    ledger: Ledger, title: str, sql: asyncpg.Connection
) -> None:
    await store(sql, title)
    ledger.acknowledged(title, ABSENT)

    with pytest.raises(AssertionError, match=title):
        await ledger.assert_stored(sql)


async def test_a_task_that_nobody_created_is_noticed_where_the_database_is_ours(
    ledger: Ledger, sql: asyncpg.Connection
) -> None:
    await store(sql, "unknown")
    await ledger.assert_stored(sql)

    with pytest.raises(AssertionError, match="unknown"):
        await ledger.assert_stored(sql, exclusive=True)
