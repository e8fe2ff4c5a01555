"""A Redis Cluster keeps each key on one of its nodes: the start refuses it, in one sentence."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from api.app import create_app
from api.charges import Limit
from api.rate_limit.redis_sliding_window import RedisSlidingWindow
from persistence.redis_url import RedisServer, parse_redis_url
from tests.conftest import settings_of_tests
from tests.log_lines import records_of
from tests.neighbours.valkeys import valkey_cluster

SENTENCE = (
    "REDIS_URL: {address} is a node of a cluster, which keeps only a part of the keys; "
    "name a Redis that is not one."
)


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    with valkey_cluster(tmp_path_factory.mktemp("cluster")) as urls:
        yield urls


async def test_each_node_is_refused_at_the_start(nodes: list[str], database_url: str) -> None:
    for url in nodes:
        app = create_app(settings_of_tests(
            database_url=database_url, redis_url=url, rate_limit_enabled=True,
        ))  # fmt: skip
        messages = [{"type": "lifespan.startup"}]
        sent: list[Any] = []

        async def receive(messages: list[Any] = messages) -> Any:
            return messages.pop()

        async def send(message: Any, sent: list[Any] = sent) -> None:
            sent.append(message)

        await app({"type": "lifespan", "state": {}}, receive, send)

        sentence = SENTENCE.format(address=url.partition("@")[2])
        assert sent == [{"type": "lifespan.startup.failed", "message": sentence}]


async def test_a_redis_that_became_a_cluster_is_reported_and_hits_are_counted_locally(
    nodes: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """It answers MOVED for the keys of other nodes. A probe of one key alone would not see that."""
    windows = RedisSlidingWindow(parse_redis_url(nodes[0]), 5.0, probe_every=0.05)

    states = [await windows.hit(f"twofold:read:user:{n}", Limit(5, 60), 1) for n in range(20)]
    again = await windows.hit("twofold:read:user:1", Limit(5, 60), 1)
    is_degraded = windows.is_degraded
    await windows.close()

    assert all(state.remaining == 4 for state in states)
    assert again.remaining == 3
    assert is_degraded
    [warning] = [record.getMessage() for record in records_of(caplog, "twofold.budget")]
    assert "is a node of a cluster" in warning


async def test_a_key_that_is_elsewhere_stops_the_calls_until_it_is_found(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As behind a proxy that hides that there is a cluster: only some keys are moved."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while received := await reader.read(65536):
            for command in received.split(b"\r\n*"):
                if b"HELLO" in command:
                    writer.write(b"-ERR unknown command\r\n")
                elif b"LOAD" in command:
                    writer.write(b"$1\r\nx\r\n")
                elif b":moved" in command:
                    writer.write(b"-MOVED 5 127.0.0.1:1\r\n")
                else:
                    writer.write(b"*6\r\n:1\r\n:4\r\n$1\r\n0\r\n$1\r\n0\r\n$1\r\n0\r\n$1\r\n0\r\n")
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        windows = RedisSlidingWindow(RedisServer("127.0.0.1", port), 5.0, probe_every=0.02)
        await windows.open()
        await windows.hit("twofold:read:user:here", Limit(5, 60), 1)
        await windows.hit("twofold:read:user:moved", Limit(5, 60), 1)
        await asyncio.sleep(0.3)
        is_degraded = windows.is_degraded
        await windows.close()

    assert is_degraded
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 1
