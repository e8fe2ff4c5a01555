"""A small crowd that never stops asking, through both doors, and remembers every answer.

What an answer may be is judged when it arrives; what was written is judged at the end, against
the database.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

import asyncpg
import httpx

PAUSE: Final = 0.1
"""Seconds between an answer and the next question, of each in the crowd."""

ABSENT: Final = 0
"""In place of a version: there is no such task."""


class Door(StrEnum):
    """Where one knocks."""

    REST = "rest"
    GRAPHQL = "graphql"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. Times are those of ``time.monotonic``.

    Attributes:
        verdict: ``"done"``, ``"unavailable"`` as the contract has it, or what is wrong with it.
        failures: how many errors it tells; a GraphQL answer may tell several.
        remaining: what it says is left of the budget.
    """

    door: Door
    verb: str
    began: float
    ended: float
    verdict: str
    status: int = 0
    failures: int = 0
    request_id: str = ""
    remaining: str | None = None
    body: Any = None

    @property
    def is_done(self) -> bool:
        """Whether what was asked for was done."""
        return self.verdict == "done"

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended - self.began


@dataclass(slots=True)
class Crowd:
    """Readers and writers, and what they were told.

    Attributes:
        ledger: for each task that was ever to be made, by its description, the versions at which
            it may be now.
        lateness: the most by which the machine kept ourselves waiting, in seconds.
    """

    client: httpx.AsyncClient
    token: str
    answers: list[Answer] = field(default_factory=list)
    ledger: dict[str, set[int]] = field(default_factory=dict)
    over: bool = False
    lateness: float = 0.0

    @classmethod
    @asynccontextmanager
    async def at(
        cls, client: httpx.AsyncClient, token: str, *, of_each: int = 2
    ) -> AsyncIterator[Crowd]:
        """At work for as long as the block lasts; then everyone's last answer is waited for.

        Args:
            of_each: how many readers and how many writers there are at each door.
        """
        crowd = cls(client, token)
        roles = [role for role in (crowd._read, crowd._write) for _ in range(of_each)]
        workers = [asyncio.create_task(role(door)) for role in roles for door in Door]
        watches = (crowd._watch_health, crowd._watch_the_clock)
        workers += [asyncio.create_task(watch()) for watch in watches]
        try:
            await asyncio.sleep(2 * PAUSE)
            yield crowd
        finally:
            crowd.over = True
            finished, hanging = await asyncio.wait(workers, timeout=15)
            for worker in hanging:
                worker.cancel()
        assert not hanging, "somebody still waits for an answer"
        for worker in finished:
            worker.result()

    # --- What was seen ------------------------------------------------------------------------

    def told(self, *verbs: str, since: float = 0.0, done: bool | None = None) -> list[Answer]:
        """The answers to these verbs, or to all but the looks at /health."""
        return [
            answer
            for answer in self.answers
            if (answer.verb in verbs if verbs else answer.verb != "health")
            and answer.began >= since
            and done in (None, answer.is_done)
        ]

    def summary(self) -> str:
        """The answers, counted."""
        counted = Counter((answer.verb, answer.verdict) for answer in self.told())
        slowest = max((answer.seconds for answer in self.told()), default=0.0)
        health = max((answer.seconds for answer in self.told("health")), default=0.0)
        told = ", ".join(f"{n} {verb} {verdict}" for (verb, verdict), n in sorted(counted.items()))
        waits = f"/health {health:.3f} s, the machine {self.lateness:.3f} s"
        return f"{told}; slowest {slowest:.2f} s, {waits}"

    async def until_served(self, within: float = 5.0) -> float:
        """Wait until all is well, and return in how many seconds after now it was.

        All is well when every door did every verb after the last failure.
        """
        since = time.monotonic()
        async with asyncio.timeout(within + 2):
            while not self._all_well(since):  # noqa: ASYNC110  # no event
                await asyncio.sleep(0.02)
        failed = [answer.ended for answer in self.told(done=False)]
        recovered = max([0.0, *(ended - since for ended in failed)])
        print(f"well after {recovered:.2f} s")
        return recovered

    def _all_well(self, since: float) -> bool:
        last = max((answer.ended for answer in self.told(done=False)), default=0.0)
        good = {
            (answer.door, answer.verb) for answer in self.told(since=max(since, last), done=True)
        }
        return len(good) == 2 * len(_VERBS)

    def assert_honest(self, deadline: float) -> None:
        """Nobody was told anything but the truth, and everybody within the deadline.

        Args:
            deadline: of a request, in seconds; what it takes a busy machine comes on top.
        """
        wrong = [answer for answer in self.told() if answer.verdict not in ("done", "unavailable")]
        assert not wrong, f"{len(wrong)} wrong answers: {wrong[:3]}"
        latest = deadline + LATENESS + self.lateness
        late = [answer for answer in self.told() if answer.seconds > latest]
        assert not late, f"{len(late)} late answers: {late[:3]}"
        longest = HEALTH_SECONDS + self.lateness
        slow = [answer.seconds for answer in self.told("health") if answer.seconds > longest]
        assert not slow, f"/health was held up: {slow}, {self.lateness=:.2f}"

    async def assert_stored(self, sql: asyncpg.Connection) -> None:
        """What was acknowledged is stored, once; what was not, at most once."""
        stored: dict[str, list[int]] = {}
        for key, version in await sql.fetch("SELECT description, version FROM tasks"):
            stored.setdefault(key, []).append(version)
        wrong = {
            key: (stored.get(key, []), possible)
            for key, possible in self.ledger.items()
            if len(stored.get(key, [])) > 1 or stored.get(key, [ABSENT])[0] not in possible
        }
        assert not wrong, f"{len(wrong)} tasks are not as told (stored, possible): {wrong}"

    # --- Who is in it -------------------------------------------------------------------------

    async def _read(self, door: Door) -> None:
        while not self.over:
            await self._ask(door, "read", *_READS[door])

    async def _write(self, door: Door) -> None:
        """Make a task, change it, and delete every other: all of it exactly as far as told."""
        while not self.over:
            key = secrets.token_hex(8)
            self.ledger[key] = possible = {ABSENT, 1}
            made = await self._ask(door, "create", *_create(door, key))
            if not made.is_done:
                continue
            possible.discard(ABSENT)
            task_id = _task_id(door, made)
            possible.add(2)
            changed = await self._ask(door, "change", *_change(door, task_id))
            if changed.is_done:
                possible.discard(1)
            if random.random() < 0.5:
                possible.add(ABSENT)
                deleted = await self._ask(door, "delete", *_delete(door, task_id))
                if deleted.is_done:
                    possible.intersection_update({ABSENT})

    async def _watch_health(self) -> None:
        while not self.over:
            await self._ask(Door.REST, "health", "GET", "/health", None)

    async def _watch_the_clock(self) -> None:
        """How busy the machine is: the service can't be quicker than it lets us be."""
        while not self.over:
            due = time.monotonic() + 0.05
            await asyncio.sleep(0.05)
            self.lateness = max(self.lateness, time.monotonic() - due)

    async def _ask(self, door: Door, verb: str, method: str, path: str, body: Any) -> Answer:
        answer = await ask(self.client, self.token, door, verb, method, path, body)
        self.answers.append(answer)
        await asyncio.sleep(PAUSE * random.uniform(0.5, 1.5))
        return answer


LATENESS: Final = 0.8
"""Seconds that a busy machine may add to a deadline."""

HEALTH_SECONDS: Final = 0.6
"""The longest that /health may take, on a busy machine, whatever else goes on."""


async def ask(
    client: httpx.AsyncClient, token: str, door: Door, verb: str, method: str, path: str, body: Any
) -> Answer:
    """Ask once, and judge the answer."""
    began = time.monotonic()
    headers = {"Authorization": f"Bearer {token}"}
    if door is Door.GRAPHQL:
        headers["Accept"] = "application/graphql-response+json"
    try:
        response = await client.request(method, path, json=body, headers=headers)
    except httpx.HTTPError as error:
        return Answer(door, verb, began, time.monotonic(), f"no answer: {error!r}")
    ended = time.monotonic()
    verdict, failures = _judged(door, response)
    return Answer(
        door, verb, began, ended, verdict, response.status_code, failures,
        response.headers.get("X-Request-ID", ""), response.headers.get("X-RateLimit-Remaining"),
        response.json() if response.content else None,
    )  # fmt: skip


def _judged(door: Door, response: httpx.Response) -> tuple[str, int]:
    """The verdict on an answer, and how many errors it tells."""
    told = f"{response.status_code} {response.text[:500]}"
    if response.status_code == 503:
        media_type = response.headers["Content-Type"].partition(";")[0]
        problem = response.json()
        if door is Door.GRAPHQL:
            [error] = problem["errors"]
            problem = error["extensions"]
            right = (
                media_type == "application/graphql-response+json"
                and "data" not in response.json()
                and problem["code"] == "SERVICE_UNAVAILABLE"
            )
        else:
            right = media_type == "application/problem+json"
        right = right and (problem["type"], problem["status"]) == ("service_unavailable", 503)
        right = right and int(response.headers.get("Retry-After", 0)) > 0
        right = right and problem["request_id"] == response.headers["X-Request-ID"]
        return ("unavailable" if right else told), 1
    if not response.is_success:
        return told, 1
    errors = response.json().get("errors", []) if door is Door.GRAPHQL else []
    codes = {error["extensions"]["code"] for error in errors}
    if not errors:
        return "done", 0
    return ("unavailable" if codes == {"SERVICE_UNAVAILABLE"} else told), len(errors)


_VERBS: Final = ("read", "create", "change", "delete")

_READS: Final = {
    Door.REST: ("GET", "/tasks?limit=5", None),
    # Siblings, each with connections of its own.
    Door.GRAPHQL: (
        "POST",
        "/graphql",
        {"query": "{ a: tasks(first: 5) { totalCount nodes { id } } b: tasks(first: 1) "
                  "{ nodes { title } } c: task(id: 1) { id } viewer { userId } }"},
    ),
}  # fmt: skip


def _create(door: Door, key: str) -> tuple[str, str, Any]:
    new = {"title": "made", "description": key}
    if door is Door.REST:
        return "POST", "/tasks", new
    return _graphql("($new: CreateTaskInput!) { done: createTask(input: $new) { id } }", new=new)


def _change(door: Door, task_id: str) -> tuple[str, str, Any]:
    changes = {"title": "changed"}
    if door is Door.REST:
        return "PATCH", f"/tasks/{task_id}", changes
    return _graphql(
        "($id: ID!, $changes: UpdateTaskInput!)"
        " { done: updateTask(id: $id, input: $changes) { version } }",
        id=task_id, changes=changes,
    )  # fmt: skip


def _delete(door: Door, task_id: str) -> tuple[str, str, Any]:
    if door is Door.REST:
        return "DELETE", f"/tasks/{task_id}", None
    return _graphql("($id: ID!) { done: deleteTask(id: $id) { id } }", id=task_id)


def _graphql(operation: str, **variables: Any) -> tuple[str, str, Any]:
    return "POST", "/graphql", {"query": f"mutation {operation}", "variables": variables}


def _task_id(door: Door, made: Answer) -> str:
    task = made.body if door is Door.REST else made.body["data"]["done"]
    return str(task["id"])
