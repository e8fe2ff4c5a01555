"""What exists as long as the app: opened and closed by its lifespan."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from starlette.types import Scope

from api.auth.authenticator import Authenticator
from api.live.hints import RedisHints
from api.live.hub import Hub
from api.rate_limit.budget import VIEWER_PREFIX, Budget
from api.settings import Settings
from persistence.database import Database
from persistence.pool import UNIDENTIFIED, Pool
from persistence.redis_url import parse_redis_url
from persistence.usage import Usage

PROBE_SECONDS: Final = 2.0
"""How long a readiness probe waits for the database, in seconds."""


class ProbeResult(NamedTuple):
    """The result of a readiness probe.

    Attributes:
        at: when it ended, in monotonic seconds.
        failing: the part that fails, if any.
        reason: why it fails.
        cause: the exception that it failed with.
    """

    at: float
    failing: str = ""
    reason: str = ""
    cause: Exception | None = None


@dataclass(slots=True)
class State:
    """The parts of a running app.

    Attributes:
        live: the open streams.
        hints: to and from other instances; ``None`` without Redis.
        draining: whether graceful shutdown has started.
        failing: the part that failed in the last readiness probe, if any.
        probing: the latest readiness probe, running or done.
    """

    settings: Settings
    pool: Pool
    authenticator: Authenticator
    budget: Budget
    live: Hub = field(init=False)
    hints: RedisHints | None = field(init=False)
    draining: bool = False
    failing: str = ""
    probing: asyncio.Task[ProbeResult] | None = None

    def __post_init__(self) -> None:
        self.live = Hub(self._unhurried, self.authenticator, self.settings.live_check_seconds)
        url = self.settings.redis_url
        self.hints = (
            RedisHints(parse_redis_url(url.get_secret_value()), self.live.hint, self.live.hint_all)
            if url
            else None
        )

    @property
    def redis(self) -> Literal["ok", "degraded"] | None:
        """Whether Redis serves the budgets and the hints; ``None`` if the instances share none."""
        return "degraded" if self.hints and self.hints.are_lost else self.budget.redis

    def _unhurried(self) -> Database:
        """The streams' access to the database: a share of its own."""
        return self._database(self.settings.request_deadline_seconds, share="live")

    def database(self, usage: Usage | None = None) -> Database:
        """A request's access to the database, with the request's deadline."""
        database = self._database(self.settings.request_deadline_seconds, usage=usage)
        database.on_write = self._hint
        return database

    def maintenance(self) -> Database:
        """The background's access to the database: a request's deadline, and a share of its own."""
        return self._database(self.settings.request_deadline_seconds, share="maintenance")

    def _hint(self, share: str) -> None:
        user_id = share.removeprefix(VIEWER_PREFIX)
        self.live.hint(user_id)
        if self.hints:
            self.hints.send(user_id)

    def probe(self) -> Database:
        """A readiness probe's access to the database: a short deadline, and a share of its own."""
        return self._database(PROBE_SECONDS, share="probe")

    def _database(
        self, seconds: float, share: str = UNIDENTIFIED, usage: Usage | None = None
    ) -> Database:
        return Database(self.pool, seconds, share, self.settings.database_schema, usage)


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[State]:
    """Make the parts of a running app, and close them at the end. Connects to Redis only."""
    assert settings.database_url is not None
    pool = Pool(settings.database_url.get_secret_value(), settings.pool)
    budget = Budget(settings)
    await budget.open()
    state = State(settings, pool, Authenticator(settings), budget)
    if state.hints:
        state.hints.open()
    try:
        yield state
    finally:
        if state.hints:
            await state.hints.close()
        if state.probing:
            state.probing.cancel()
            await asyncio.wait([state.probing])
        await state.live.close()
        await budget.close()
        await pool.close()


def state_of(scope: Scope) -> State:
    """The state of the app that serves this request."""
    state: State = scope["app"].state.twofold
    return state


def is_draining(scope: Scope) -> bool:
    """Whether the instance drains. Without a lifespan, as in some tests, it does not."""
    state: State | None = scope["app"].state.twofold
    return state is not None and state.draining
