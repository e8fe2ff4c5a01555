"""Users of the API, and how the auth server would sign them in."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from tests.operations import Changes, Deleted, Page, Task, Updated
from tests.surfaces import ApiError, Surface

HASH_SECRET = "the secret of the tests, of more than 32 characters"
"""The key of the token digests in ``user_sessions``."""

SESSION_TABLES = """
CREATE TABLE users (id text PRIMARY KEY, email text UNIQUE);
CREATE TABLE user_sessions (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id text NOT NULL REFERENCES users,
    token_hash text NOT NULL UNIQUE,
    expires_at timestamptz NOT NULL,
    revoked boolean NOT NULL DEFAULT false
);
"""
"""The auth server's tables in the layout ``hashed``."""


@dataclass(slots=True)
class Person:
    """A user of one of the protocols. Each method is that of ``Surface``, with their token."""

    user_id: str
    token: str
    surface: Surface

    async def list_tasks(self, **query: Any) -> Page:
        """See ``Surface.list_tasks``."""
        return await self.surface.list_tasks(self.token, **query)

    async def create_task(self, title: Any, **members: Any) -> Task:
        """See ``Surface.create_task``."""
        return await self.surface.create_task(self.token, {"title": title, **members})

    async def get_task(self, task_id: Any) -> Task:
        """See ``Surface.get_task``."""
        return await self.surface.get_task(self.token, task_id)

    async def change_task(self, task_id: Any, version: int | None = None, **changes: Any) -> Task:
        """See ``Surface.change_task``."""
        return await self.surface.change_task(self.token, task_id, changes, version)

    async def delete_task(self, task_id: Any, version: int | None = None) -> None:
        """See ``Surface.delete_task``."""
        await self.surface.delete_task(self.token, task_id, version)

    async def create_tasks(self, *tasks: Any) -> list[Task]:
        """See ``Surface.create_tasks``."""
        return await self.surface.create_tasks(self.token, list(tasks))

    async def change_tasks(self, task_ids: list[Any], **changes: Any) -> Updated:
        """See ``Surface.change_tasks``."""
        return await self.surface.change_tasks(self.token, task_ids, changes)

    async def delete_tasks(self, task_ids: list[Any]) -> Deleted:
        """See ``Surface.delete_tasks``."""
        return await self.surface.delete_tasks(self.token, task_ids)

    async def list_changes(self, **query: Any) -> Changes:
        """See ``Surface.list_changes``."""
        return await self.surface.list_changes(self.token, **query)

    async def list_trash(self, **query: Any) -> Page:
        """See ``Surface.list_trash``."""
        return await self.surface.list_trash(self.token, **query)

    async def restore_task(self, task_id: Any) -> Task:
        """See ``Surface.restore_task``."""
        return await self.surface.restore_task(self.token, task_id)

    async def empty_trash(self) -> None:
        """See ``Surface.empty_trash``."""
        await self.surface.empty_trash(self.token)

    @contextmanager
    def refused(self, error_type: str) -> Iterator[pytest.ExceptionInfo[ApiError]]:
        """Require that the request in the block is refused with this type of the catalogue."""
        with pytest.raises(ApiError) as refusal:
            yield refusal
        assert refusal.value.problem["type"] == error_type, refusal.value.problem


def token_hash(token: str, secret: str = HASH_SECRET) -> str:
    """The digest of a token, as the auth server stores it."""
    return hmac.new(secret.encode(), token.encode(), hashlib.sha256).hexdigest()


async def sign_in(
    sql: asyncpg.Connection,
    surface: Surface,
    name: str,
    secret: str = HASH_SECRET,
    lasting: timedelta = timedelta(hours=1),
) -> Person:
    """Create a session, and the user if there is none of this name, as the auth server does."""
    token = secrets.token_urlsafe(32)
    await sql.execute("INSERT INTO users (id) VALUES ($1) ON CONFLICT DO NOTHING", name)
    await sql.execute(
        "INSERT INTO user_sessions (user_id, token_hash, expires_at) VALUES ($1, $2, now() + $3)",
        name,
        token_hash(token, secret),
        lasting,
    )
    return Person(name, token, surface)
