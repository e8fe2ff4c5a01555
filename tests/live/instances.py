"""Instances in this process, on real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import httpx
import pytest

from api.live import hub
from tests.people import HASH_SECRET, Person, sign_in
from tests.surfaces import RestSurface
from tests.trips import TripCounter


class Instance:
    """A running server, with its app and its address."""

    def __init__(self, app: Any, url: str, client: httpx.AsyncClient) -> None:
        self.app, self.url, self.client = app, url, client

    @property
    def hub(self) -> hub.Hub:
        return self.app.state.twofold.live


Serve = Callable[..., Awaitable[Instance]]


@asynccontextmanager
async def served_until_the_database_is_away(
    serve: Serve, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Instance]:
    """An instance that waits half a second for its database, and has none after the block."""
    monkeypatch.setattr(hub, "MAX_DATABASE_AWAY", 0.5)
    async with TripCounter.before(database_url) as proxy:
        yield await serve(
            database_url=proxy.url, live_check_seconds=1, request_deadline_seconds=0.5
        )


async def person_of(instance: Instance, sql: asyncpg.Connection, name: str = "ada") -> Person:
    return await sign_in(sql, RestSurface(instance.client), name, HASH_SECRET)
