"""A new secret for hashing tokens: sessions under the old one stay valid while both are set."""

from __future__ import annotations

import secrets

import pytest

from persistence.embedded.postgres import Postgres
from persistence.sessions.tokens import hash_token
from tests.conftest import run_sql
from tests.sessions.layouts import (
    HASHED,
    LAYOUTS,
    NewService,
    Service,
    copied_database,
    interval,
    open_service,
)
from tests.trips import TripCounter

OLD = "the old secret of the tests for hashing tokens"
NEW = "the new secret of the tests for hashing tokens"
BOTH = f"{NEW}, {OLD}"


async def session_under(service: Service, secret: str) -> str:
    """The token of a new session, hashed with this secret."""
    token = secrets.token_urlsafe(24)
    row = hash_token(secret.encode(), token.encode())
    await service.sql.execute(
        service.layout.insert, row, service.layout.user_id, interval("1 hour")
    )
    return token


@pytest.mark.parametrize("layout", ["hashed", "hashed, naive"])
@pytest.mark.parametrize("cache", [0, 60], ids=["", "cached"])
async def test_sessions_under_the_new_and_the_old_secret_are_valid(
    layout: str, cache: int, new_service: NewService
) -> None:
    async with new_service(
        LAYOUTS[layout], session_hash_secret=BOTH, session_cache_seconds=cache
    ) as service:
        new = await session_under(service, NEW)
        old = await session_under(service, OLD)
        other = await session_under(service, "a secret that neither server has had")
        # Once by the look-up, then together with the read.
        responses = [
            await service.client.get("/tasks?limit=5", headers={"Authorization": f"Bearer {token}"})
            for token in (new, old, other) * 2
        ]

    assert [response.status_code for response in responses] == [200, 200, 401] * 2


@pytest.mark.parametrize("secret", [NEW, OLD], ids=["new", "old"])
async def test_a_warm_read_is_one_trip_under_either_secret(
    secret: str, postgres: Postgres, migrated: str
) -> None:
    url = await copied_database(postgres, migrated)
    await run_sql(url, HASHED.tables)
    async with (
        TripCounter.before(url) as trips,
        open_service(trips.url, HASHED, session_hash_secret=BOTH) as service,
    ):
        token = await session_under(service, secret)
        headers = {"Authorization": f"Bearer {token}"}
        counts = []
        # The first one finds the session, the second one prepares the look-up with the read.
        for _ in range(4):
            before = trips.count
            (await service.client.get("/tasks?limit=10", headers=headers)).raise_for_status()
            counts.append(trips.count - before)

    assert counts[2:] == [1, 1]


async def test_a_session_ends_in_the_middle_of_a_rotation(new_service: NewService) -> None:
    async with new_service(HASHED, session_hash_secret=BOTH) as service:
        token = await session_under(service, OLD)
        before = await service.status(token)
        await service.sql.execute("UPDATE user_sessions SET revoked = true")
        after = await service.status(token)

    assert (before, after) == (200, 401)


async def test_without_the_old_secret_its_sessions_are_invalid(new_service: NewService) -> None:
    async with new_service(HASHED, session_hash_secret=NEW) as service:
        old = await session_under(service, OLD)

        assert await service.status(old) == 401


async def test_a_secret_with_a_comma_from_before_lists_stays_valid(
    new_service: NewService,
) -> None:
    async with new_service(HASHED, session_hash_secret=BOTH) as service:
        token = await session_under(service, BOTH)

        assert await service.status(token) == 200
