"""What one client, without an account or with one, can do to the connections of a real server."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

import asyncpg
import pytest

from api.rate_limit.response_slots import MAX_SLOTS
from api.server.uvicorn_protocol import MAX_HEADERS
from tests.conftest import HASH_SECRET
from tests.log_lines import has_exception
from tests.people import sign_in
from tests.siege.attackers import HEALTH, REQUEST, Target, reset, send, slower
from tests.surfaces import RestSurface

MB = 1024 * 1024
ROUNDS = 3
"""The best counts: what else the machine does can only make a round slower."""


@pytest.fixture
async def target(database_url: str, tmp_path: Path) -> AsyncIterator[Target]:
    async with Target.on(database_url, tmp_path) as target:
        yield target
    assert not [
        line
        for line in target.lines()
        if has_exception(line)
        or ('"level":"error"' in line and '"logger":"twofold.request"' not in line)
    ]


# --- Pipelining -------------------------------------------------------------------------------


async def _one_at_a_time(target: Target, seconds: float) -> None:
    """The control: one client that reads every response before it asks again."""
    reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while True:
                writer.write(REQUEST)
                await reader.readuntil(b"}")
    writer.close()
    await writer.wait_closed()


async def _without_pause(target: Target, seconds: float, reads: bool) -> int:
    connection = target.connect()
    burst, sent = REQUEST * 5000, 0
    until = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < until:
        sent += max(0, send(connection, burst[sent % len(REQUEST) :]))
        if reads:
            with suppress(BlockingIOError):
                connection.recv(MB)
        await asyncio.sleep(0.001)
    connection.close()
    return sent


@pytest.mark.parametrize("reads", [True, False], ids=["read", "unread"])
@pytest.mark.parametrize("seconds", [2, pytest.param(20, marks=pytest.mark.drill)])
async def test_requests_without_pause_cost_no_memory_and_delay_no_other_client(
    seconds: int, reads: bool, target: Target
) -> None:
    times = []
    for _ in range(ROUNDS):
        control, _ = await asyncio.gather(target.latencies(2), _one_at_a_time(target, 2))
        before = target.memory
        attacked, sent = await asyncio.gather(
            target.latencies(seconds), _without_pause(target, seconds, reads)
        )
        times.append(slower(attacked, control))
        grown = target.memory - before
        print(f"{sent} bytes sent, {grown} grown, {times[-1]:.1f} times slower")
        assert grown < 16 * MB
        if times[-1] < 10:
            break

    assert min(times) < 10


# --- Bytes that are no body -------------------------------------------------------------------


NONE = b"POST /none HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = NONE + b"Transfer-Encoding: chunked\r\n\r\n"
ENDLESS = {
    "trailer": (CHUNKED + b"0\r\nX: ", b"a" * 65536),
    "chunk extension": (CHUNKED + b"1;", b"a" * 65536),
    "chunk extensions": (CHUNKED, (b"1;" + b"a" * 1000 + b"\r\nx\r\n") * 64),
    "header": (NONE + b"X: ", b"a" * 65536),
    "line ends": (b"", b"\r\n" * 32768),
    "body": (NONE + b"Content-Length: 999999999999\r\n\r\n", b"a" * 65536),
    "body of ends of heads": (NONE + b"Content-Length: 999999999999\r\n\r\n", b"\r\n\r\n" * 16384),
}


@pytest.mark.parametrize(("begin", "more"), ENDLESS.values(), ids=ENDLESS)
async def test_an_endless_request_is_cut_off_and_delays_no_other_client(
    begin: bytes, more: bytes, target: Target
) -> None:
    before, memory = target.descriptors, target.memory

    async def flood() -> int:
        connection = target.connect()
        connection.send(begin)
        sent = answered = 0
        while (count := send(connection, more)) >= 0:
            sent += count
            assert sent < 64 * MB
            with suppress(BlockingIOError, ConnectionResetError):
                answered += len(connection.recv(65536))
            await asyncio.sleep(0.001)
        connection.close()
        return sent

    times = []
    for _ in range(ROUNDS):
        control = await target.latencies(0.5)
        attacked, sent = await asyncio.gather(target.latencies(0.5), flood())
        times.append(slower(attacked, control))
        # What the kernels hold on the way counts, too, and is more than the server read.
        assert MAX_HEADERS <= sent < 16 * MB
        if times[-1] < 10:
            break

    assert min(times) < 10
    assert target.memory - memory < 16 * MB
    await target.until(before, 5)


# --- Connections that never end ---------------------------------------------------------------

STATES = {
    "nothing after an early response": NONE + b"Content-Length: 99\r\n\r\n",
    "a byte after an early response": NONE + b"Content-Length: 99\r\n\r\nx",
    "a chunk after an early response": CHUNKED + b"1\r\nx\r\n",
    "expecting to be asked": NONE + b"Expect: 100-continue\r\nContent-Length: 99\r\n\r\n",
    "a part of a head": REQUEST[:20],
    "line ends": b"\r\n\r\n",
    "a part of a head behind a request": HEALTH + REQUEST[:20],
    "a request to switch protocols with a body": (
        NONE + b"Connection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 99\r\n\r\nx"
    ),
}


READ = (
    b"POST /tasks HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n"
    b"Content-Type: application/json\r\nContent-Length: 99\r\n\r\n"
)


LIST = b"GET /tasks HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n\r\n"


async def _is_closed(connection: socket.socket) -> None:
    with suppress(ConnectionResetError):
        while await asyncio.get_running_loop().sock_recv(connection, 65536):
            pass


@pytest.mark.slow
async def test_no_connection_is_held_open_by_a_request_that_does_not_end(
    database_url: str, sql: asyncpg.Connection, target: Target
) -> None:
    ada = await sign_in(sql, RestSurface(target.client), "ada", HASH_SECRET)
    reading = READ % ada.token.encode()
    idle = target.connect()
    await target.client.get("/health")
    before = target.descriptors
    silent = {name: target.connect() for name in STATES}
    dripping = {f"{name}, dripping": target.connect() for name in STATES}
    read = {"a body that is read": target.connect(), "the same, dripping": target.connect()}
    for name, connection in (silent | dripping).items():
        connection.send(STATES[name.removesuffix(", dripping")])
    for connection in read.values():
        connection.send(reading)
    dripping["the same, dripping"] = read["the same, dripping"]

    async def drip() -> None:
        while True:
            await asyncio.sleep(1.5)
            for connection in dripping.values():
                send(connection, b"1")

    dropping = asyncio.create_task(drip())
    connections = silent | dripping | read
    ended = {name: asyncio.create_task(_is_closed(each)) for name, each in connections.items()}
    await asyncio.wait(ended.values(), timeout=25)
    dropping.cancel()

    assert [name for name, task in ended.items() if not task.done()] == []
    # The control: who has sent nothing yet is kept for longer.
    with pytest.raises(BlockingIOError):
        idle.recv(1)
    # Connections to PostgreSQL may be new, five at most.
    await target.until(before + 5, 5)


@pytest.mark.slow
async def test_an_instance_without_descriptors_refuses_and_says_so_and_serves_on(
    database_url: str, tmp_path: Path, sql: asyncpg.Connection
) -> None:
    async with Target.on(database_url, tmp_path, before="ulimit -n 256") as target:
        ada = await sign_in(sql, RestSurface(target.client), "ada", HASH_SECRET)
        before = target.descriptors

        crowd = [target.connect() for _ in range(400)]
        await asyncio.sleep(1)
        held = target.descriptors
        # On the connection that is open already; those to PostgreSQL are opened now.
        tasks = [await ada.list_tasks() for _ in range(3)]
        lines = target.lines()
        for connection in crowd:
            connection.close()
        await target.until(before + 10, 5)

        assert (await target.client.get("/health", headers={"Connection": "close"})).is_success
        assert held < 200
        assert len(tasks) == 3
        [line] = [line for line in lines if "descriptors" in line]
        assert "connections refused: 128 file descriptors are in use" in line
        async with asyncio.timeout(30):
            while "connections refused: over" not in target.log.read_text():  # noqa: ASYNC110
                await asyncio.sleep(0.2)
        assert len([line for line in target.lines() if "connections refused" in line]) <= 4
        assert not has_exception(target.log.read_text())


# --- Versions and hosts -----------------------------------------------------------------------


async def test_in_production_too_a_request_names_one_host_in_a_version_that_is_known(
    database_url: str, tmp_path: Path
) -> None:
    production = {
        "ENVIRONMENT": "production",
        "REDIS_URL": "redis://127.0.0.1:1",
        "CORS_ORIGINS": "https://app.example.com",
        "DRAIN_SECONDS": "0",
    }
    expected = {
        b"GET /health HTTP/1.1\r\n\r\n": b"400",
        b"GET /health HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n": b"400",
        b"GET /health HTTP/1.1\r\nHost:\r\n\r\n": b"400",
        b"GET /graphql HTTP/1.1\r\nHost: a b\r\n\r\n": b"400",
        b"GET /health%0a HTTP/1.1\r\nHost: a\r\n\r\n": b"404",
        b"GET /health HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n": b"400",
        b"GET /health HTTP/1.0\r\n\r\n": b"200",
        b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n": b"200",
        b"GET /health HTTP/2.0\r\nHost: a\r\n\r\n": b"505",
        b"GET /health HTTP/3.7\r\nHost: a\r\n\r\n": b"400",
        b"GET /health\r\n\r\n": b"505",
    }
    async with Target.on(database_url, tmp_path, **production) as target:
        got = {}
        for request in expected:
            reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
            writer.write(request)
            got[request] = (await reader.readline()).split()[1]
            writer.close()
            await writer.wait_closed()

    assert got == expected


# --- The log ----------------------------------------------------------------------------------


def _resets(target: Target) -> None:
    for sent in (REQUEST * 200, HEALTH * 1000, CHUNKED + b"1\r\nx\r\n", REQUEST[:9]):
        connection = target.connect()
        send(connection, sent)
        reset(connection)


def _resets_unread(target: Target) -> None:
    connection = target.connect(taking=4096)
    send(connection, b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: localhost\r\n\r\n" * 50)
    reset(connection)


def _garbage(target: Target) -> None:
    connection = target.connect()
    send(connection, secrets.token_bytes(99) + b"\r\n\r\n")
    connection.close()


@pytest.mark.parametrize("attack", [_resets, _resets_unread, _garbage])
@pytest.mark.parametrize("times", [300, pytest.param(10_000, marks=pytest.mark.drill)])
async def test_clients_that_reset_or_send_garbage_do_not_fill_the_log(
    times: int, attack: Callable[[Target], None], target: Target
) -> None:
    before, lines = target.descriptors, len(target.lines())
    for number in range(times):
        attack(target)
        await asyncio.sleep(0.002 * (number % 4))
    await target.until(before, 10)

    assert len(target.lines()) - lines <= 3 + times / 100
    assert not [line for line in target.lines() if has_exception(line)]


@pytest.mark.parametrize("times", [100, pytest.param(5_000, marks=pytest.mark.drill)])
async def test_a_person_that_resets_while_responses_are_made_leaves_no_traceback(
    times: int, target: Target, sql: asyncpg.Connection
) -> None:
    ada = await sign_in(sql, RestSurface(target.client), "ada", HASH_SECRET)
    reading = LIST % ada.token.encode()
    writing = READ % ada.token.encode() + b'{"title": "x"}' + b" " * 85
    before = target.descriptors

    for number in range(times):
        connection = target.connect()
        send(connection, (writing * 20, reading * 30, writing * 3 + reading * 3)[number % 3])
        await asyncio.sleep((0, 0.002, 0.004, 0.01, 0.03)[number % 5])
        reset(connection)

    await target.until(before + 5, 10)  # Of which PostgreSQL's connections may be all new.
    assert target.lines() == []


async def test_clients_that_reset_while_the_server_stops_leave_no_traceback(target: Target) -> None:
    connections = [target.connect() for _ in range(50)]
    for connection in connections:
        send(connection, HEALTH * 500)
    await asyncio.sleep(0.01)
    target.process.terminate()
    for connection in connections:
        await asyncio.sleep(0.002)
        reset(connection)

    await asyncio.to_thread(target.process.wait, 20)


# --- Responses that are not read --------------------------------------------------------------

ROWS = """
INSERT INTO tasks (user_id, title, description)
SELECT 'ada', repeat('𝄞', 200), repeat('𝄞', 1000) FROM generate_series(1, 1000)
"""


@pytest.mark.slow
async def test_one_persons_unread_responses_are_bounded_and_nobody_else_waits(
    target: Target, sql: asyncpg.Connection
) -> None:
    ada = await sign_in(sql, RestSurface(target.client), "ada", HASH_SECRET)
    bob = await sign_in(sql, RestSurface(target.client), "bob", HASH_SECRET)
    await sql.execute(ROWS)
    ada_client = {"Authorization": f"Bearer {ada.token}"}
    size = len((await target.client.get("/tasks", headers=ada_client)).content)
    before = target.memory
    many = 5 * MAX_SLOTS
    crowd = [target.connect(taking=4096) for _ in range(many)]
    for connection in crowd:
        connection.send(LIST % ada.token.encode())
    most = 0
    for _ in range(30):
        most = max(most, target.memory - before)
        await bob.list_tasks()
        await asyncio.sleep(0.1)
    waiting = [each for each in crowd if not _has_response(each)]
    # Her next request waits, and is told so in bounded time.
    response = await target.client.get("/tasks", headers=ada_client)

    print(f"{most} grown; {many} responses of {size} bytes")
    assert (response.status_code, response.json()["type"]) == (503, "service_unavailable")
    assert response.headers["Retry-After"] == "2"
    assert len(waiting) == many - MAX_SLOTS
    # Rows on their way to a response are larger than it; but never all of them at once.
    assert most < 2 * MAX_SLOTS * size < many * size
    for connection in crowd:
        reset(connection)
    assert (await target.client.get("/tasks?limit=1", headers=ada_client)).is_success


def _has_response(connection: socket.socket) -> bool:
    with suppress(BlockingIOError):
        return bool(connection.recv(1, socket.MSG_PEEK))
    return False
