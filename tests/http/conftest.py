"""Clients of apps with any settings."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from api.app import create_app
from tests import conftest
from tests.http.environments import Client


@pytest.fixture
def served(database_url: str) -> Callable[..., Client]:
    """Starts an app with other settings, and hands out a client of it."""

    @asynccontextmanager
    async def serve(**changes: Any) -> AsyncIterator[httpx.AsyncClient]:
        app = create_app(conftest.settings_of_tests(**{"database_url": database_url} | changes))
        async with app.router.lifespan_context(app), conftest.new_client(app) as client:
            client.app = app  # type: ignore[attr-defined]
            yield client

    return serve
