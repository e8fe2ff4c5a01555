"""Windows on a Valkey, and instances of the service with budgets on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from fastapi import FastAPI

from api.app import create_app
from api.rate_limit.redis_sliding_window import RedisSlidingWindow
from persistence.redis_url import parse_redis_url
from tests.conftest import new_client, settings_of_tests


@asynccontextmanager
async def opened(
    url: str, waiting: float = 5.0, **options: Any
) -> AsyncIterator[RedisSlidingWindow]:
    windows = RedisSlidingWindow(parse_redis_url(url), waiting, **options)
    await windows.open()
    try:
        yield windows
    finally:
        await windows.close()


@asynccontextmanager
async def instance(database_url: str, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    """One instance of the service, with budgets on."""
    defaults = {"database_url": database_url, "rate_limit_enabled": True}
    app: FastAPI = create_app(settings_of_tests(**(defaults | settings)))
    async with app.router.lifespan_context(app), new_client(app) as client:
        yield client
