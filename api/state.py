"""What lives as long as the app: opened by the lifespan, handed out piece by piece."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, NamedTuple

from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.types import Scope

from api.auth import Authenticator
from api.rate_limit.budget import Budget
from api.settings import Settings
from persistence.database import Database, create_engine

PROBE_SECONDS: Final = 2.0
"""How long a readiness probe waits for the database; probes themselves time out after seconds."""


class Probed(NamedTuple):
    """The result of a readiness probe.

    Attributes:
        at: when it ended, in monotonic seconds.
        failing: the part that fails, if any.
        reason: what is the matter with it.
        cause: the exception behind it.
    """

    at: float
    failing: str = ""
    reason: str = ""
    cause: Exception | None = None


@dataclass(slots=True)
class State:
    """The parts of a running app.

    Attributes:
        draining: turns true once, when it is told to stop.
        failing: the part that kept it from being ready when it was last looked at, if any.
        probing: the latest readiness probe, running or done.
    """

    settings: Settings
    engine: AsyncEngine
    authenticator: Authenticator
    budget: Budget
    draining: bool = False
    failing: str = ""
    probing: asyncio.Task[Probed] | None = None

    def database(self) -> Database:
        """A request's access to the database, with the request's deadline."""
        return Database(self.engine, self.settings.request_deadline_seconds)

    def probe(self) -> Database:
        """Access for a readiness probe: a short deadline, and a share that nobody else uses."""
        return Database(self.engine, PROBE_SECONDS, share="probe")


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[State]:
    """Everything that a running app needs, closed again at the end. Connects to nothing yet."""
    assert settings.database_url is not None
    engine = create_engine(settings.database_url.get_secret_value(), settings.pool)
    budget = Budget(settings)
    await budget.open()
    state = State(settings, engine, Authenticator(settings), budget)
    try:
        yield state
    finally:
        if state.probing:
            state.probing.cancel()
            await asyncio.wait([state.probing])
        await budget.close()
        await engine.dispose()


def state_of(scope: Scope) -> State:
    """The state of the app that serves this request."""
    state: State = scope["app"].state.twofold
    return state
