"""Servers with short time-outs."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.protocol.connections import Reading, Server, listening


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with listening(Server(), keep_alive=5) as server:
        yield server


@pytest.fixture
async def reading() -> AsyncIterator[Reading]:
    async with listening(Reading(), keep_alive=5) as reading:
        yield reading
