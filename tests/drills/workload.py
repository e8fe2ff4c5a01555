"""Readers and writers at work through both APIs, and what they were answered.

Each response is judged when it arrives. What was written is compared with the database at the end.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any, Final

import httpx

from tests.control import GIVE_UP, Control
from tests.drills.ledger import ABSENT, Ledger
from tests.operations import Api, Change, Create, Delete, List, Operation, Task
from tests.surfaces import GRAPHQL_JSON, SURFACES, Request, Response, authorization

PAUSE: Final = 0.1
"""Seconds between a response and the next request of each reader and writer."""

MARGIN: Final = 0.8
"""Seconds that the service may take beyond a deadline: to cancel a statement, and to answer."""

HEALTH_SECONDS: Final = 0.6
"""The longest that /health may take, whatever else happens."""

_KINDS: Final = ("read", "create", "change", "delete")


NO_RESPONSE: Final = Response(0, {}, b"")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a request ended. Times are those of ``time.monotonic``.

    Attributes:
        kind: of the request: ``"read"``, ``"create"``, ``"change"``, ``"delete"``, ``"health"``,
            or ``""`` where a test sent it.
        verdict: ``"ok"``, ``"unavailable"`` as the contract has it, or what is wrong with it.
        failures: how many errors it reports; a GraphQL response may report several.
    """

    api: Api
    kind: str
    began: float
    ended: float
    verdict: str
    failures: int = 0
    response: Response = NO_RESPONSE

    @property
    def is_ok(self) -> bool:
        """Whether the operation was done."""
        return self.verdict == "ok"

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended - self.began

    @property
    def status(self) -> int:
        """The status of the response; 0 where there was none."""
        return self.response.status

    @property
    def request_id(self) -> str:
        """The id of the request, from the response."""
        return self.response.headers.get("x-request-id", "")

    @property
    def remaining(self) -> str | None:
        """What is left of the budget, from the response."""
        return self.response.headers.get("x-ratelimit-remaining")

    @property
    def body(self) -> Any:
        """The JSON of the response."""
        return self.response.json


async def send(client: httpx.AsyncClient, token: str, request: Request, kind: str = "") -> Outcome:
    """Send a request once, and judge the response."""
    api = Api.GRAPHQL if request.path.startswith("/graphql") else Api.REST
    headers = {**authorization(token), **request.headers}
    began = time.monotonic()
    try:
        received = await client.request(
            request.method, request.target, content=request.body, headers=headers
        )
    except httpx.HTTPError as error:
        return Outcome(api, kind, began, time.monotonic(), f"no response: {error!r}")
    ended = time.monotonic()
    response = Response(received.status_code, received.headers, received.content)
    return Outcome(api, kind, began, ended, *_judge(api, response), response)


def _judge(api: Api, response: Response) -> tuple[str, int]:
    """The verdict on a response, and how many errors it reports."""
    text = f"{response.status} {response.body[:500]!r}"
    if response.status == 503:
        return ("unavailable" if _is_proper_503(api, response) else text), 1
    if not 200 <= response.status < 300:
        return text, 1
    errors = response.json.get("errors", []) if api is Api.GRAPHQL else []
    codes = {error["extensions"]["code"] for error in errors}
    if not errors:
        return "ok", 0
    return ("unavailable" if codes == {"SERVICE_UNAVAILABLE"} else text), len(errors)


def _is_proper_503(api: Api, response: Response) -> bool:
    media_type = response.headers["content-type"].partition(";")[0]
    problem = response.json
    if api is Api.GRAPHQL:
        [error] = problem["errors"]
        if "data" in problem or error["extensions"]["code"] != "SERVICE_UNAVAILABLE":
            return False
        problem = error["extensions"]
    return (
        media_type == {Api.REST: "application/problem+json", Api.GRAPHQL: GRAPHQL_JSON}[api]
        and (problem["type"], problem["status"]) == ("service_unavailable", 503)
        and int(response.headers.get("retry-after", 0)) > 0
        and problem["request_id"] == response.headers["x-request-id"]
    )


@dataclass(slots=True)
class Workload:
    """Readers and writers, their responses, and how slow the machine was meanwhile.

    Attributes:
        ledger: what was acknowledged.
        control: measures the machine for as long as they work.
    """

    client: httpx.AsyncClient
    control: Control
    outcomes: list[Outcome] = field(default_factory=list)
    ledger: Ledger = field(default_factory=Ledger)
    _is_over: bool = False

    @classmethod
    @asynccontextmanager
    async def at(
        cls, client: httpx.AsyncClient, tokens: Sequence[str], *, of_each: int = 2
    ) -> AsyncIterator[Workload]:
        """Work for as long as the block lasts, and until everyone's last response.

        Args:
            tokens: of the people whose requests these are, in turn. One person may hold only half
                of the pool.
            of_each: how many readers and how many writers each API has.
        """
        async with Control.running() as control:
            load = cls(client, control)
            roles = [role for role in (load._read, load._write) for _ in range(of_each)]
            pairs = [(role, api) for role in roles for api in Api]
            workers = [
                asyncio.create_task(role(api, token))
                for (role, api), token in zip(pairs, cycle(tokens), strict=False)
            ]
            workers.append(asyncio.create_task(load._watch_health()))
            try:
                await asyncio.sleep(2 * PAUSE)
                yield load
            finally:
                load._is_over = True
                finished, hanging = await asyncio.wait(workers, timeout=GIVE_UP)
                for worker in hanging:
                    worker.cancel()
            assert not hanging, "a request has no response"
            for worker in finished:
                worker.result()

    # --- Outcomes -----------------------------------------------------------------------------

    def select(self, *kinds: str, since: float = 0.0, ok: bool | None = None) -> list[Outcome]:
        """The responses to requests of these kinds, or of all kinds but ``"health"``.

        Args:
            since: only those to requests that began then or later.
            ok: only those that are, or those that are not.
        """
        return [
            response
            for response in self.outcomes
            if (response.kind in kinds if kinds else response.kind != "health")
            and response.began >= since
            and ok in (None, response.is_ok)
        ]

    def summary(self) -> str:
        """The responses, counted."""
        counted = Counter((response.kind, response.verdict) for response in self.select())
        slowest = max((response.seconds for response in self.select()), default=0.0)
        health = max((response.seconds for response in self.select("health")), default=0.0)
        counts = ", ".join(
            f"{n} {kind} {verdict}" for (kind, verdict), n in sorted(counted.items())
        )
        return (
            f"{counts}; slowest {slowest:.2f} s, /health {health:.3f} s,"
            f" control {self.control.slowest:.3f} s"
        )

    async def until_ok(self) -> float:
        """Wait until every API has done every kind of request after the latest failure.

        Returns:
            In how many seconds from now the latest failure was answered.
        """
        since = time.monotonic()
        async with asyncio.timeout(GIVE_UP):
            while not self._is_all_ok(since):  # noqa: ASYNC110  # no event
                await asyncio.sleep(0.02)
        failed = [response.ended for response in self.select(ok=False)]
        seconds = max([0.0, *(ended - since for ended in failed)])
        print(f"ok after {seconds:.2f} s")
        return seconds

    def _is_all_ok(self, since: float) -> bool:
        latest = max((response.ended for response in self.select(ok=False)), default=0.0)
        good = self.select(since=max(since, latest), ok=True)
        return len({(response.api, response.kind) for response in good}) == len(Api) * len(_KINDS)

    def assert_proper(self, deadline: float) -> None:
        """Require that every response is proper, and came within the deadline of a request.

        Args:
            deadline: in seconds. The service's ``MARGIN`` and the machine's control are added.
        """
        wrong = [
            response for response in self.select() if response.verdict not in ("ok", "unavailable")
        ]
        assert not wrong, f"{len(wrong)} wrong responses: {wrong[:3]}"
        bound = self.control.bound(deadline + MARGIN)
        late = [response for response in self.select() if response.seconds > bound]
        assert not late, f"{len(late)} responses later than {bound:.2f} s: {late[:3]}"
        bound = self.control.bound(HEALTH_SECONDS)
        slow = [response.seconds for response in self.select("health") if response.seconds > bound]
        assert not slow, f"/health took longer than {bound:.2f} s: {slow}"

    # --- Workers ------------------------------------------------------------------------------

    async def _read(self, api: Api, token: str) -> None:
        while not self._is_over:
            await self._send("read", _READS[api], token)

    async def _write(self, api: Api, token: str) -> None:
        """Create a task, change it, and delete every other, as far as the service does it."""
        while not self._is_over:
            title = self.ledger.new_title()
            task = await self._do(api, token, "create", Create({"title": title}), title, 1)
            if task is None:
                continue
            change = Change(task.id, {"completed": True})
            await self._do(api, token, "change", change, title, 2)
            if random.random() < 0.5:
                await self._do(api, token, "delete", Delete(task.id), title, ABSENT)

    async def _do(
        self, api: Api, token: str, kind: str, operation: Operation, title: str, version: int
    ) -> Task | None:
        """Do an operation that brings a task to a version, and note it; the task if it did."""
        surface = SURFACES[api]
        self.ledger.sent(title, version)
        response = await self._send(kind, surface.encode(operation), token)
        if not response.is_ok:
            return None
        self.ledger.acknowledged(title, version)
        task = surface.decode(operation, response.response)
        return task if isinstance(task, Task) else None

    async def _watch_health(self) -> None:
        while not self._is_over:
            await self._send("health", Request("GET", "/health"), "")

    async def _send(self, kind: str, request: Request, token: str) -> Outcome:
        response = await send(self.client, token, request, kind)
        self.outcomes.append(response)
        await asyncio.sleep(PAUSE * random.uniform(0.5, 1.5))
        return response


# Fields that are resolved at the same time, each on a connection of its own.
_SIBLINGS: Final = (
    "{ a: tasks(first: 5) { totalCount nodes { id } } b: tasks(first: 1) { nodes { title } }"
    " c: task(id: 1) { id } viewer { userId } }"
)


def graphql(document: str) -> Request:
    """A request with a document that is no operation of the surface."""
    headers = {"accept": GRAPHQL_JSON, "content-type": "application/json"}
    return Request("POST", "/graphql", "", json.dumps({"query": document}).encode(), headers)


_READS: Final = {
    Api.REST: SURFACES[Api.REST].encode(List({"limit": 5})),
    Api.GRAPHQL: graphql(_SIBLINGS),
}
