"""What a worker counts, and what Prometheus reads of all workers."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import asyncpg
import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from api.app import create_app
from api.server import metrics_listener
from api.telemetry.series import FOLDER_VARIABLE, Collector, Family, Sheet
from persistence.embedded.processes import free_port
from tests.conftest import ROOT, new_client, settings_of_tests
from tests.control import GIVE_UP
from tests.live.clients import WebSocket
from tests.people import HASH_SECRET, Person, sign_in
from tests.servers import COMMAND, served
from tests.surfaces import RestSurface

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples_of(text: str) -> Samples:
    """Each sample, by its name and its labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


class Reading:
    """The metrics of an app, and what they have grown by."""

    def __init__(self, folder: Path) -> None:
        self._collector = Collector(folder)

    def samples(self) -> Samples:
        return samples_of(self._collector.text())

    def __call__(self, name: str, **labels: str) -> float:
        """The sum of the samples that have these labels."""
        return total(self.samples(), name, **labels)


def total(samples: Samples, name: str, **labels: str) -> float:
    """The sum of the samples that have these labels."""
    values = [
        value
        for (each, pairs), value in samples.items()
        if each == name and labels.items() <= pairs
    ]
    return sum(values)


@pytest.fixture
async def counted(
    tmp_path: Path, database_url: str, sql: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[httpx.AsyncClient, Reading]]:
    """Ada's client of an app that counts."""
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    settings = settings_of_tests(
        database_url=database_url, rate_limit_enabled=True, rate_limit_read="5/minute"
    )
    app = create_app(settings)
    async with app.router.lifespan_context(app), new_client(app) as client:
        ada = await sign_in(sql, RestSurface(client), "ada", HASH_SECRET)
        client.headers["Authorization"] = f"Bearer {ada.token}"
        yield client, Reading(tmp_path)


Counted = tuple[httpx.AsyncClient, Reading]


async def until_read(metrics: Reading) -> None:
    """Wait until the parts of the app were read again."""
    name = "twofold_event_loop_lag_seconds_count"
    before = metrics(name)
    async with asyncio.timeout(GIVE_UP):
        while metrics(name) < before + 2:  # noqa: ASYNC110  # no event
            await asyncio.sleep(0.05)


# --- Requests -----------------------------------------------------------------------------


async def test_a_request_is_counted_by_its_route_and_the_class_of_its_status(
    counted: Counted,
) -> None:
    client, metrics = counted
    made = await client.post("/tasks", json={"title": "sow"})
    path = made.headers["Location"]

    await client.get(path)
    await client.head(path)
    await client.get("/tasks/999")
    await client.get("/nowhere")
    await client.request("BREW", "/tasks")

    def count(operation: str, status: str) -> float:
        name = "twofold_request_seconds_count"
        return metrics(name, protocol="rest", operation=operation, status=status)

    assert count("POST /tasks", "2xx") == 1
    assert count("GET /tasks/{task_id}", "2xx") == 2
    assert count("GET /tasks/{task_id}", "4xx") == 1
    assert count("none", "4xx") == 2


async def test_a_graphql_request_is_counted_by_the_kind_of_its_operation(counted: Counted) -> None:
    client, metrics = counted
    for document in (
        "query AnyName { tasks { totalCount } }",
        'mutation { deleteTask(id: "9") { id } }',
        "{",
    ):
        await client.post("/graphql", json={"query": document})

    def count(operation: str) -> float:
        return metrics("twofold_request_seconds_count", protocol="graphql", operation=operation)

    assert [count(kind) for kind in ("query", "mutation", "rejected")] == [1, 1, 1]
    assert metrics("twofold_errors_total", type="not_found_error") == 1
    assert metrics("twofold_errors_total", type="graphql_parse_failed") == 1


async def test_the_seconds_of_requests_are_a_histogram(counted: Counted) -> None:
    client, metrics = counted
    await client.get("/tasks")

    labels = {"protocol": "rest", "operation": "GET /tasks", "status": "2xx"}
    assert metrics("twofold_request_seconds_bucket", le="+Inf", **labels) == 1
    assert metrics("twofold_request_seconds_bucket", le="10.0", **labels) == 1
    assert 0 < metrics("twofold_request_seconds_sum", **labels) < 10


async def test_nothing_that_a_client_names_is_a_label(counted: Counted) -> None:
    client, metrics = counted
    before = metrics.samples().keys()

    for number in range(20):
        await client.get(f"/a{number}")
        await client.post("/graphql", json={"query": f"query a{number} {{ viewer {{ id }} }}"})
        await client.request(f"BREW{number}", "/tasks")

    new = {(name, pairs - {("le", "x")}) for name, pairs in metrics.samples().keys() - before}
    operations = {dict(pairs).get("operation") for _, pairs in new}
    assert operations <= {"none", "query", "rejected"}


# --- Parts --------------------------------------------------------------------------------


async def test_budget_decisions_are_counted(counted: Counted) -> None:
    client, metrics = counted
    for _ in range(7):
        await client.get("/tasks")
    await client.post("/tasks", json={"title": "sow"})

    def decisions(kind: str, outcome: str) -> float:
        return metrics("twofold_budget_decisions_total", kind=kind, outcome=outcome)

    assert (decisions("read", "admitted"), decisions("read", "refused")) == (5, 2)
    assert (decisions("write", "admitted"), decisions("write", "refused")) == (1, 0)


async def test_authentications_are_counted_by_their_outcome(counted: Counted) -> None:
    client, metrics = counted
    await client.get("/tasks")
    await client.get("/tasks")
    await client.get("/tasks", headers={"Authorization": "Bearer nobody"})
    await client.get("/health")

    outcomes = [
        metrics("twofold_authentications_total", outcome=each) for each in ("accepted", "refused")
    ]
    assert outcomes == [2, 1]


async def test_replays_are_counted(counted: Counted) -> None:
    client, metrics = counted
    for _ in range(3):
        await client.post("/tasks", json={"title": "sow"}, headers={"Idempotency-Key": "k"})

    assert metrics("twofold_idempotent_replays_total") == 2


async def test_the_parts_of_the_app_are_read(counted: Counted) -> None:
    client, metrics = counted
    await client.post("/graphql", json={"query": "{ tasks { totalCount } }"})
    await client.post("/graphql", json={"query": "{ tasks { totalCount } }"})
    await until_read(metrics)

    assert metrics("twofold_workers") == 1
    assert metrics("twofold_pool_size") == 5
    assert metrics("twofold_pool_connections", state="idle") >= 1
    assert metrics("twofold_pool_connections", state="in_use") == 0
    assert metrics("twofold_documents") == 1
    assert metrics("twofold_documents_bytes") > 0
    assert metrics("twofold_document_lookups_total", outcome="hit") == 1
    assert metrics("twofold_document_lookups_total", outcome="miss") == 1
    assert metrics("twofold_graphql_fallbacks_total") == 0
    assert metrics("twofold_event_loop_lag_seconds_count") >= 1
    assert metrics("twofold_build_info") == 1


async def test_a_redis_that_is_away_is_seen(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    settings = settings_of_tests(
        database_url=database_url, rate_limit_enabled=True, redis_url="redis://127.0.0.1:1"
    )
    app = create_app(settings)
    async with app.router.lifespan_context(app), new_client(app) as client:
        await client.get("/tasks", headers={"Authorization": "Bearer nobody"})
        metrics = Reading(tmp_path)
        await until_read(metrics)

        assert metrics("twofold_redis_degraded") == 1
        assert metrics("twofold_hints_lost") == 1
        assert metrics("twofold_budget_local_decisions_total") >= 1


def test_without_a_reader_nothing_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)

    app = create_app(settings_of_tests(database_url="postgresql://a@b/c"))

    assert app.metrics is None  # type: ignore[attr-defined]


# --- Several workers ----------------------------------------------------------------------

FAMILIES = [
    Family("made_total", "Counted.", "counter", [(("kind", "a"),), (("kind", 'b"\\\n'),)]),
    Family("open", "Now.", "gauge"),
    Family("version", "The highest.", "gauge", combine="max"),
    Family("seconds", "Took.", "histogram", buckets=(0.1, 1.0)),
]

WORKER = """
import sys, pathlib
from tests.test_metrics import FAMILIES
from api.server import metrics_listener
from api.telemetry.series import Sheet
sheet = Sheet(pathlib.Path(sys.argv[1]), FAMILIES)
sheet.values[sheet.place("made_total", kind="a")] += 3
sheet.values[sheet.place("open")] = 2
sheet.values[sheet.place("version")] = 7
for seconds in (0.05, 0.1, 0.5, 5):
    sheet.observe("seconds", seconds)
print("ready", flush=True)
sys.stdin.read()
"""


@contextmanager
def worker(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has counted, and waits. It is killed after the block."""
    command = [sys.executable, "-c", WORKER, str(folder)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


def test_workers_are_added_up_and_ended_ones_keep_what_they_counted(tmp_path: Path) -> None:
    own, metrics = Sheet(tmp_path, FAMILIES), Reading(tmp_path)
    own.values[own.place("made_total", kind="a")] = 1
    own.values[own.place("open")] = 1
    own.values[own.place("version")] = 5

    with worker(tmp_path):
        both = metrics.samples()
    after, again = metrics.samples(), metrics.samples()

    def read(samples: Samples) -> list[float]:
        names = ("made_total", "open", "version", "seconds_count", "seconds_sum")
        return [total(samples, name) for name in names]

    assert read(both) == [4, 3, 7, 4, 5.65]
    assert read(after) == read(again) == [4, 1, 5, 4, 5.65]
    assert len([*tmp_path.iterdir()]) == 1
    assert total(both, "seconds_bucket", le="0.1") == 2
    assert total(both, "seconds_bucket", le="+Inf") == 4
    assert total(both, "made_total", kind='b"\\\n') == 0


async def scrape(port: int) -> Samples:
    async with httpx.AsyncClient() as prometheus:
        response = await prometheus.get(f"http://127.0.0.1:{port}/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    return samples_of(response.text)


async def until(condition: Callable[[Samples], bool], port: int) -> Samples:
    """Scrape until the samples are so; return them."""
    async with asyncio.timeout(GIVE_UP):
        while not condition(samples := await scrape(port)):  # noqa: ASYNC110  # no event
            await asyncio.sleep(0.1)
    return samples


def test_a_worker_starts_although_its_folder_was_cleaned_away(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    sheet = Sheet(folder, FAMILIES)
    sheet.values[sheet.place("open")] = 1

    assert Reading(folder)("open") == 1


@pytest.mark.slow
async def test_metrics_of_two_workers_are_one_and_a_worker_that_is_killed_loses_none(
    database_url: str, sql: asyncpg.Connection
) -> None:
    port = free_port()
    settings = {"WEB_CONCURRENCY": "2", "METRICS_PORT": str(port)}
    labels = {"operation": "GET /tasks", "status": "2xx"}
    name = "twofold_request_seconds_count"
    async with served(database_url, **settings) as (client, process):
        ada = await sign_in(sql, RestSurface(client), "ada", HASH_SECRET)
        client.headers["Authorization"] = f"Bearer {ada.token}"
        await until(lambda samples: total(samples, "twofold_workers") == 2, port)
        for _ in range(3):
            await asyncio.gather(*(client.get("/tasks") for _ in range(20)))
        before = await scrape(port)
        worker = psutil.Process(process.pid).children()[-1]
        worker.kill()
        await until(lambda samples: total(samples, "twofold_workers") == 1, port)
        after = await until(lambda samples: total(samples, "twofold_workers") == 2, port)

    assert total(before, name, **labels) == total(after, name, **labels) == 60


@pytest.mark.parametrize("sent", [b"", b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Slow: "])
async def test_a_scrape_that_never_ends_holds_up_others_and_the_end_for_a_bounded_time(
    sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics_listener, "SCRAPE_SECONDS", 0.5)
    port = free_port()
    settings = settings_of_tests(database_url="postgresql://h/d", metrics_port=port)
    ended = asyncio.Event()

    async def drip() -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        with suppress(ConnectionError):
            while not ended.is_set():
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.1)
        writer.close()

    with metrics_listener.metrics_served(settings):
        dripping = [asyncio.create_task(drip()) for _ in range(2)]
        await asyncio.sleep(0.1)
        await scrape(port)
        dripping.append(asyncio.create_task(drip()))
        await asyncio.sleep(0.1)
    ended.set()
    await asyncio.gather(*dripping)


@pytest.mark.slow
def test_a_port_of_metrics_that_is_taken_is_one_sentence(database_url: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        environment = os.environ | {
            "DATABASE_URL": database_url,
            "SESSION_HASH_SECRET": HASH_SECRET,
            "PORT": str(free_port()),
            "METRICS_PORT": str(port),
        }
        done = subprocess.run(
            COMMAND, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )

    assert done.returncode == 1
    assert done.stderr == (
        f"Port {port} of 127.0.0.1 is in use: stop what uses it, or set METRICS_PORT.\n"
    )


async def test_one_worker_has_its_metrics_on_a_port_of_their_own(database_url: str) -> None:
    port = free_port()
    async with served(database_url, METRICS_PORT=str(port)) as (client, _):
        samples = await scrape(port)
        on_ours = await client.get("/metrics")
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as prometheus:
            elsewhere = await prometheus.get("/tasks")

    assert total(samples, "twofold_workers") == 1
    assert (on_ours.status_code, elsewhere.status_code) == (404, 404)


# --- Streams ------------------------------------------------------------------------------


async def test_streams_and_sockets_are_counted_apart_from_requests(
    database_url: str, sql: asyncpg.Connection
) -> None:
    port = free_port()
    async with served(database_url, METRICS_PORT=str(port)) as (client, _):
        ada = await sign_in(sql, RestSurface(client), "ada", HASH_SECRET)
        client.headers["Authorization"] = f"Bearer {ada.token}"
        async with client.stream("GET", "/tasks/events") as response, socket_of(client, ada):
            lines = response.aiter_lines()
            await next_event(lines)
            await client.post("/tasks", json={"title": "sow"})
            await next_event(lines)
            await until(lambda samples: open_ones(samples) == [1, 1], port)
        samples = await until(lambda samples: open_ones(samples) == [0, 0], port)

    assert total(samples, "twofold_streams_ended_total") == 1
    assert total(samples, "twofold_sockets_ended_total") == 1
    assert total(samples, "twofold_stream_events_total") == 2
    seconds = "twofold_request_seconds_count"
    assert total(samples, seconds, operation="POST /tasks") == 1
    assert total(samples, seconds, operation="GET /tasks/events") == 0
    assert total(samples, seconds, protocol="graphql") == 0


def open_ones(samples: Samples) -> list[float]:
    return [total(samples, name) for name in ("twofold_streams", "twofold_sockets")]


async def next_event(lines: AsyncIterator[str]) -> None:
    """Read up to the empty line at the end of an event."""
    async with asyncio.timeout(GIVE_UP):
        while await anext(lines):
            pass


@asynccontextmanager
async def socket_of(client: httpx.AsyncClient, person: Person) -> AsyncIterator[None]:
    """An open WebSocket that has been acknowledged."""
    url = str(client.base_url.copy_with(scheme="ws", path="/graphql"))
    async with connect(url, subprotocols=[Subprotocol("graphql-transport-ws")]) as websocket:
        await WebSocket(websocket).init(person)
        yield
