"""What lives as long as the app: opened by the lifespan, handed out piece by piece."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.types import Scope

from api.auth import Authenticator
from api.rate_limit.budget import Budget
from api.settings import Settings
from persistence.database import Database, create_engine

PROBE_SECONDS: Final = 2.0
"""How long a readiness probe waits for the database; probes themselves time out after seconds."""


@dataclass(slots=True)
class State:
    """The parts of a running app.

    Attributes:
        draining: turns true once, when it is told to stop.
        failing: the part that kept it from being ready when it was last looked at, if any.
    """

    settings: Settings
    engine: AsyncEngine
    authenticator: Authenticator
    budget: Budget
    draining: bool = False
    failing: str = ""

    def database(self) -> Database:
        """A request's access to the database, with the request's deadline."""
        return Database(self.engine, self.settings.request_deadline_seconds)

    def probe(self) -> Database:
        """Access for a readiness probe, which wants a quick answer rather than a patient one."""
        return Database(self.engine, PROBE_SECONDS)


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[State]:
    """Everything that a running app needs, closed again at the end. Connects to nothing yet."""
    assert settings.database_url is not None
    engine = create_engine(settings.database_url.get_secret_value(), settings.pool)
    budget = Budget(settings)
    await budget.open()
    try:
        yield State(settings, engine, Authenticator(settings), budget)
    finally:
        await budget.close()
        await engine.dispose()


def state_of(scope: Scope) -> State:
    """The state of the app that serves this request."""
    state: State = scope["app"].state.twofold
    return state
