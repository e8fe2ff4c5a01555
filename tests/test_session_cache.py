"""``SESSION_CACHE_SECONDS``: one round trip fewer, and what it may cost."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import asyncpg
import httpx
import pytest
from fastapi import FastAPI

from api.app import create_app
from api.settings import SettingsError, load
from api.state import State
from persistence.sessions import cache as session_cache
from persistence.sessions.cache import SessionCache
from persistence.sessions.lookups import MAX_SECONDS_LEFT
from persistence.sessions.tokens import hash_token
from tests.conftest import HASH_SECRET, new_client, settings_of_tests
from tests.people import Person, sign_in
from tests.surfaces import RestSurface, Surface
from tests.trips import TripCounter

SECONDS = 30


class Clock:
    """Time as the cache sees it; it passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The cache's clock, in our hands."""
    clock = Clock()
    monkeypatch.setattr(session_cache, "elapsed", clock)
    return clock


@pytest.fixture
async def app(trips: TripCounter, clock: Clock) -> AsyncIterator[FastAPI]:
    """An app that remembers sessions for half a minute."""
    app = create_app(settings_of_tests(database_url=trips.url, session_cache_seconds=SECONDS))
    async with app.router.lifespan_context(app):
        yield app


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A client of that app."""
    async with new_client(app) as client:
        yield client


def remembered(app: FastAPI) -> SessionCache:
    """What the app remembers sessions in."""
    state: State = app.state.twofold
    sessions = state.authenticator._sessions
    assert isinstance(sessions, SessionCache)
    return sessions


async def trips_of(trips: TripCounter, attempt: Callable[[], Any]) -> int:
    """How many trips the second of two such requests takes, on a warm connection."""
    await attempt()
    before = trips.count
    await attempt()
    return trips.count - before


async def revoke(sql: asyncpg.Connection, person: Person) -> None:
    """Sign someone out, as the auth server does."""
    digest = hash_token(HASH_SECRET.encode(), person.token.encode())
    revoked = "UPDATE user_sessions SET revoked = true WHERE token_hash = $1"
    assert await sql.execute(revoked, digest) == "UPDATE 1"


async def test_a_warm_operation_takes_one_trip(ada: Person, trips: TripCounter) -> None:
    assert await trips_of(trips, ada.list_tasks) == 1
    assert await trips_of(trips, lambda: ada.create_task("water the plants")) == 1


async def test_it_is_off_unless_it_is_asked_for(
    trips: TripCounter, sql: asyncpg.Connection, database_url: str
) -> None:
    app = create_app(settings_of_tests(database_url=trips.url))
    async with app.router.lifespan_context(app), new_client(app) as client:
        ada = await sign_in(sql, RestSurface(client), "ada", HASH_SECRET)

        assert await trips_of(trips, ada.list_tasks) == 2
        await revoke(sql, ada)
        with ada.refused("authentication_error"):
            await ada.list_tasks()


async def test_a_revocation_is_seen_when_the_time_is_over(
    ada: Person, sql: asyncpg.Connection, clock: Clock
) -> None:
    await ada.list_tasks()
    clock.now += SECONDS - 1
    await ada.list_tasks()

    await revoke(sql, ada)
    clock.now += 0.9
    await ada.list_tasks()
    clock.now += 0.1
    with ada.refused("authentication_error"):
        await ada.list_tasks()


async def test_using_a_session_does_not_extend_its_caching(
    ada: Person, sql: asyncpg.Connection, clock: Clock
) -> None:
    await ada.list_tasks()
    await revoke(sql, ada)

    for _ in range(SECONDS - 1):
        clock.now += 1
        await ada.list_tasks()
    clock.now += 1
    with ada.refused("authentication_error"):
        await ada.list_tasks()


async def test_a_session_is_never_believed_past_its_end(
    surface: Surface, sql: asyncpg.Connection, clock: Clock
) -> None:
    ada = await sign_in(sql, surface, "ada", HASH_SECRET, timedelta(seconds=5))
    await ada.list_tasks()

    clock.now += 4.5
    await ada.list_tasks()
    await sql.execute("UPDATE user_sessions SET expires_at = now()")
    clock.now += 0.5
    with ada.refused("authentication_error"):
        await ada.list_tasks()


async def test_the_end_is_the_databases_whatever_the_time_is_here(
    surface: Surface, sql: asyncpg.Connection, app: FastAPI, client: httpx.AsyncClient, clock: Clock
) -> None:
    lasting = {"a second": 1.0, "an hour": 60.0, "for ever": 60.0}
    people = {
        name: await sign_in(sql, surface, name, HASH_SECRET, timedelta(seconds=seconds))
        for name, seconds in [("a second", 1), ("an hour", 3600), ("for ever", 3600)]
    }
    forever = "UPDATE user_sessions SET expires_at = 'infinity' WHERE user_id = 'for ever'"
    await sql.execute(forever)
    state: State = app.state.twofold

    for name, person in people.items():
        session = await remembered(app).find(state.database(), person.token.encode())

        assert session is not None
        assert session.viewer.user_id == name
        assert lasting[name] - 0.9 < session.seconds_left <= lasting[name] <= MAX_SECONDS_LEFT


async def test_time_counts_from_when_it_was_asked_not_from_the_response(
    ada: Person, sql: asyncpg.Connection, clock: Clock, trips: TripCounter
) -> None:
    await ada.list_tasks()  # A connection for each, for what follows.
    clock.now += SECONDS
    trips.delay = 0.2
    slow = asyncio.create_task(ada.list_tasks())
    await asyncio.sleep(0.1)

    clock.now += SECONDS - 1
    await slow
    trips.delay = 0.0
    await revoke(sql, ada)
    await ada.list_tasks()
    clock.now += 1
    with ada.refused("authentication_error"):
        await ada.list_tasks()


async def test_an_invalid_token_is_not_cached(
    surface: Surface, sql: asyncpg.Connection, app: FastAPI
) -> None:
    stranger = Person("ada", secrets.token_urlsafe(32), surface)
    for _ in range(2):
        with stranger.refused("authentication_error"):
            await stranger.list_tasks()
    digest = hash_token(HASH_SECRET.encode(), stranger.token.encode())
    await sql.execute("INSERT INTO users (id) VALUES ('ada')")
    await sql.execute(
        "INSERT INTO user_sessions (user_id, token_hash, expires_at)"
        " VALUES ('ada', $1, now() + interval '1 hour')",
        digest,
    )

    assert (await stranger.list_tasks()).tasks == []
    assert len(remembered(app)._entries) == 1


async def test_what_was_remembered_is_forgotten_once_it_is_found_revoked(
    ada: Person, sql: asyncpg.Connection, app: FastAPI, clock: Clock
) -> None:
    await ada.list_tasks()
    await revoke(sql, ada)
    clock.now += SECONDS

    with ada.refused("authentication_error"):
        await ada.list_tasks()

    assert not remembered(app)._entries


async def test_a_signature_is_judged_for_each_form_of_a_token(
    trips: TripCounter, sql: asyncpg.Connection, clock: Clock, database_url: str
) -> None:
    settings = settings_of_tests(
        database_url=trips.url,
        session_cache_seconds=SECONDS,
        better_auth_secrets="a secret of another kind",
    )
    app = create_app(settings)
    async with app.router.lifespan_context(app), new_client(app) as client:
        ada = await sign_in(sql, RestSurface(client), "ada", HASH_SECRET)
        await ada.list_tasks()

        ada.token += f".{'A' * 43}="
        with ada.refused("authentication_error"):
            await ada.list_tasks()


async def test_each_person_gets_their_own_session_from_the_cache(
    ada: Person, bob: Person, sql: asyncpg.Connection, clock: Clock
) -> None:
    hers, his = await ada.create_task("water the plants"), await bob.create_task("sleep in")

    for _ in range(3):
        listed = await asyncio.gather(*(person.list_tasks() for person in (ada, bob) * 10))

        assert [[task.id for task in each.tasks] for each in listed] == [[hers.id], [his.id]] * 10
        clock.now += SECONDS / 2


async def test_many_at_once_each_get_their_response_and_are_remembered_once(
    ada: Person, app: FastAPI, trips: TripCounter
) -> None:
    await asyncio.gather(*(ada.create_task(f"task {number}") for number in range(50)))

    assert len((await ada.list_tasks()).tasks) == 50
    assert len(remembered(app)._entries) == 1
    assert await trips_of(trips, ada.list_tasks) == 1


async def test_a_failed_look_up_is_not_cached_and_the_next_succeeds(
    ada: Person, clock: Clock, trips: TripCounter, app: FastAPI
) -> None:
    state: State = app.state.twofold
    hasty = state.database()
    hasty._seconds_left = 0.0

    with pytest.raises(Exception, match="TimeoutError"):
        await remembered(app).find(hasty, ada.token.encode())

    assert not remembered(app)._entries
    assert (await ada.list_tasks()).tasks == []


async def test_as_many_are_remembered_as_there_is_room_for_the_latest(
    surface: Surface,
    sql: asyncpg.Connection,
    app: FastAPI,
    trips: TripCounter,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session_cache, "ENTRIES", 3)
    people = [await sign_in(sql, surface, f"person {n}", HASH_SECRET) for n in range(4)]
    first, second, third, fourth = people
    for person in (first, second, third, first, fourth):
        await person.list_tasks()

    assert len(remembered(app)._entries) == 3
    costs = []
    for person in (first, third, fourth, second):
        before = trips.count
        await person.list_tasks()
        costs.append(trips.count - before)
    assert costs == [1, 1, 1, 2]


async def test_no_token_and_no_hash_that_the_database_knows_is_kept(
    ada: Person, app: FastAPI
) -> None:
    await ada.list_tasks()

    kept = repr(vars(remembered(app)))
    assert "'ada'" in kept
    assert ada.token not in kept
    assert hash_token(HASH_SECRET.encode(), ada.token.encode()) not in kept
    [key] = remembered(app)._entries
    assert len(key) == 32


async def test_each_process_hashes_under_a_key_of_its_own(app: FastAPI) -> None:
    other = SessionCache(remembered(app)._lookup, SECONDS)

    assert other._key != remembered(app)._key


@pytest.mark.parametrize("value", ["-1", "61", "0.5", "nan", "on"])
def test_it_is_a_number_of_seconds_up_to_a_minute(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("SESSION_CACHE_SECONDS", value)

    with pytest.raises(SettingsError, match="SESSION_CACHE_SECONDS"):
        load(dotenv=False)
