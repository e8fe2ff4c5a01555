"""Connections that are lost half-way: of clients to the service, of the service to PostgreSQL."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

from api.app import create_app
from persistence.connection import CANCEL_TIMEOUT
from persistence.database import Database
from persistence.embedded.valkey import Valkey
from persistence.errors import Unavailable
from persistence.pool import Pool, PoolSettings
from persistence.sql import Statement
from tests.conftest import new_client, settings_of_tests
from tests.control import Control
from tests.drills.service import Service
from tests.drills.workload import MARGIN, graphql
from tests.log_lines import LogLines
from tests.surfaces import Request, authorization

pytestmark = pytest.mark.timeout(600)

# --- Clients --------------------------------------------------------------------------------


@pytest.mark.drill
async def test_clients_that_close_their_connection_leave_nothing_behind(hasty: Service) -> None:
    url = hasty.client.base_url
    headers = {"host": url.host, **authorization(hasty.token)}
    lines = ["GET /tasks HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    request = "\r\n".join([*lines, "", ""]).encode()

    async def close_early() -> None:
        _, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(request)
        await asyncio.sleep(random.uniform(0, 0.02))
        writer.transport.abort()

    async with hasty.drill() as workload:
        for _ in range(15):
            await asyncio.gather(*(close_early() for _ in range(20)))

    assert not workload.select(ok=False)


# Python warns of a sibling field that is cancelled before it starts: it was never awaited.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_five_hundred_cancelled_requests_leave_nothing_behind(
    url: str, token: str, valkey: Valkey, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    app = create_app(settings_of_tests(
        database_url=f"{url}?application_name=cancelled&sslmode=disable", redis_url=valkey.url,
        rate_limit_enabled=True, rate_limit_read="1000000/minute", request_deadline_seconds=2,
        sqlalchemy_pool_size=3, sqlalchemy_max_overflow=2,
    ))  # fmt: skip
    (log := tmp_path / "log").touch()

    async def cancel(service: Service) -> None:
        sending = asyncio.create_task(service.send(random.choice([_LIST, _SIBLINGS])))
        await asyncio.sleep(random.uniform(0, 0.03))
        for _ in range(random.randrange(1, 4)):
            sending.cancel()
            await asyncio.sleep(0)
        with suppress(asyncio.CancelledError):
            await sending

    lines = LogLines(capfd)
    async with app.router.lifespan_context(app), new_client(app) as client:
        service = Service("cancelled", client, token, url, log, 2, 5)
        for _ in range(20):
            await asyncio.gather(*(cancel(service) for _ in range(25)))
        await service.assert_whole()

    # Only a server that stops cancels requests, so each is logged as unavailable. Nothing else is.
    failed = [line for line in lines.all() if line["level"] != "info"]
    assert {line.get("reason") for line in failed} <= {"the server was told to stop at once"}


_LIST = Request("GET", "/tasks")
_SIBLINGS = graphql("{ a: tasks { totalCount } b: tasks { totalCount } }")


# --- PostgreSQL -----------------------------------------------------------------------------


@pytest.mark.parametrize("is_silent", [False, True], ids=["closed", "silent"])
async def test_a_first_connection_that_fails_half_way_is_replaced(
    url: str, is_silent: bool
) -> None:
    """After each of the server's messages in turn, those of the handshake included."""

    async def connect(after: int) -> bool:
        async with FailingProxy.before(url, after, is_silent) as proxy:
            settings = PoolSettings(size=1, max_overflow=0, timeout=30, recycle=3600, pre_ping=True)
            pool = Pool(proxy.url, settings)
            if is_silent:
                began = time.monotonic()
                has_read = await try_to_read(pool)
                seconds = time.monotonic() - began
                assert seconds < control.bound(SHORT + CANCEL_TIMEOUT + MARGIN)
            if not is_silent or not has_read:
                assert await Database(pool, LONG).read(ONE)
            assert pool.in_use == 0
            await pool.close()
            return proxy.has_failed

    async with Control.running() as control:
        failed = await asyncio.gather(*(connect(after) for after in range(12)))

    assert failed.count(True) > 4
    assert sorted(failed, reverse=True) == failed
    assert failed[-1] is False


async def try_to_read(pool: Pool) -> bool:
    """Whether a statement succeeds within the short deadline."""
    with suppress(Unavailable):
        return bool(await Database(pool, SHORT).read(ONE))
    return False


ONE = Statement("SELECT 1", ())

SHORT, LONG = 2.0, 20.0
"""Deadlines in seconds. A busy machine must be able to connect within the short one."""


class FailingProxy:
    """A proxy whose first connection fails after so many of the server's messages.

    Attributes:
        url: of the database through the proxy.
        has_failed: whether the first connection got that far.
    """

    def __init__(self, url: str, after: int, is_silent: bool) -> None:
        self.url = url
        self.has_failed = False
        self._left = after
        self._is_silent = is_silent
        self._is_first = True

    @classmethod
    @asynccontextmanager
    async def before(cls, url: str, after: int, is_silent: bool) -> AsyncIterator[FailingProxy]:
        """Listen in front of a database.

        Args:
            is_silent: keep the connection open without a response, in place of closing it.
        """
        parts = urlsplit(url)
        proxy = cls(url, after, is_silent)
        server = await asyncio.start_server(
            lambda reader, writer: proxy._serve(reader, writer, parts.port), "127.0.0.1"
        )
        port = server.sockets[0].getsockname()[1]
        host = parts.netloc.replace(f":{parts.port}", f":{port}")
        proxy.url = urlunsplit(parts._replace(netloc=host, query="sslmode=disable"))
        try:
            yield proxy
        finally:
            server.close()

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int | None
    ) -> None:
        is_first, self._is_first = self._is_first, False
        from_server, to_server = await asyncio.open_connection("127.0.0.1", port)
        copying = asyncio.create_task(self._copy(reader, to_server))
        with suppress(ConnectionError):
            while response := await from_server.read(65536):
                if is_first and self._left == 0:
                    self.has_failed = True
                    if self._is_silent:
                        await copying  # Until the client closes.
                    break
                self._left -= is_first
                writer.write(response)
        copying.cancel()
        for stream in (to_server, writer):
            stream.close()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while chunk := await reader.read(65536):
                writer.write(chunk)
