"""Spent budgets: known without a trip, exact, and not to be reset by anybody."""

from __future__ import annotations

import asyncio
import time
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import uvloop
from redis.asyncio import Redis

from api.charges import Cost, Kind, Limit, WindowState
from api.errors import BudgetExceeded
from api.rate_limit import spent_windows
from api.rate_limit.budget import Budget
from api.rate_limit.redis_sliding_window import RedisSlidingWindow
from api.rate_limit.sliding_window import LocalSlidingWindow
from api.rate_limit.timeout import ResponsiveTimeout
from persistence.embedded.valkey import Valkey
from persistence.embedded.valkey import valkey as embedded_valkey
from tests.conftest import settings_of_tests
from tests.control import GIVE_UP
from tests.rate_limit.servers import opened

MINUTE = Limit(100, 60)
READ = Cost(Kind.READ)


@asynccontextmanager
async def a_budget(url: str | None, **settings: Any) -> AsyncIterator[Budget]:
    budget = Budget(settings_of_tests(
        database_url="postgresql://nobody@localhost/nothing",
        redis_url=url, rate_limit_enabled=True, rate_limit_timeout_ms=5000, **settings,
    ))  # fmt: skip
    await budget.open()
    try:
        yield budget
    finally:
        await budget.close()


async def refusal(budget: Budget, payer: str, cost: Cost = READ) -> BudgetExceeded:
    with pytest.raises(BudgetExceeded) as raised:
        await budget.spend(payer, cost)
    return raised.value


# --- A spent budget is known --------------------------------------------------------------


@pytest.mark.parametrize("shared", [True, False])
async def test_a_spent_payer_is_refused_without_a_trip(
    shared: bool, valkey: Valkey, redis: Redis
) -> None:
    async with a_budget(valkey.url if shared else None, rate_limit_read="3/minute") as budget:
        budget.require_funds("user:ada", Kind.READ)
        for _ in range(3):
            await budget.spend("user:ada", READ)
        trips = await hits(redis)

        for _ in range(50):
            with pytest.raises(BudgetExceeded):
                budget.require_funds("user:ada", Kind.READ)
            await refusal(budget, "user:ada")
        budget.require_funds("user:ada", Kind.WRITE)
        budget.require_funds("user:bob", Kind.READ)

        assert await hits(redis) - trips == 0
        await budget.spend("user:bob", READ)
        assert await hits(redis) - trips == shared


async def hits(redis: Redis) -> int:
    """How often a window was hit so far, in any of the two ways."""
    statistics = await redis.info("commandstats")
    return sum(
        statistics.get(name, {"calls": 0})["calls"] for name in ("cmdstat_evalsha", "cmdstat_eval")
    )


async def test_a_refusal_without_a_trip_reports_the_same_as_redis(
    valkey: Valkey, redis: Redis
) -> None:
    rates = {"rate_limit_read": "3/minute"}
    async with a_budget(valkey.url, **rates) as one, a_budget(valkey.url, **rates) as other:
        for _ in range(3):
            await one.spend("user:ada", READ)
            await asyncio.sleep(0.3)

        known = await refusal(one, "user:ada")
        from_redis = await refusal(other, "user:ada")

    assert known.rate_limit_info == from_redis.rate_limit_info
    assert abs(known.retry_after - from_redis.retry_after) <= 1
    assert known.charge.window.remaining == from_redis.charge.window.remaining == 0
    for name in ("seconds_until_allowed", "seconds_until_full", "seconds_until_one_fits", "now"):
        known_number = getattr(known.charge.window, name)
        assert known_number == pytest.approx(getattr(from_redis.charge.window, name), abs=0.05), (
            name
        )
    headers = dict(known.charge.headers)
    assert headers[b"ratelimit"] == b'"read";r=0;t=%d' % known.retry_after


async def test_a_large_cost_that_does_not_fit_marks_no_budget_as_spent(
    valkey: Valkey, redis: Redis
) -> None:
    async with a_budget(valkey.url) as budget:
        await budget.spend("user:ada", Cost(Kind.READ, 99))

        await refusal(budget, "user:ada", Cost(Kind.READ, 2))
        budget.require_funds("user:ada", Kind.READ)
        await budget.spend("user:ada", READ)

        with pytest.raises(BudgetExceeded):
            budget.require_funds("user:ada", Kind.READ)


async def test_no_request_is_refused_that_redis_would_admit(valkey: Valkey, redis: Redis) -> None:
    """Two instances hit one moving window; whatever Redis had left, neither refuses it."""
    limit = Limit(3, 1)
    refused_by_memory = turn = 0
    slowest = 0.0
    hits: list[float] = []
    async with (
        asyncio.timeout(GIVE_UP),
        opened(valkey.url) as one,
        opened(valkey.url) as other,
        opened(valkey.url) as judge,
    ):
        while refused_by_memory < 100 or len(hits) < 12:
            turn += 1
            windows = (one, other)[turn % 2]
            before = await judge.hit("ada", limit, 0)
            known = windows.cached_refusal("ada", limit)
            if known is None:
                cost = 1 + turn % 2
                began = time.monotonic()
                hit = await windows.hit("ada", limit, cost)
                slowest = max(slowest, time.monotonic() - began)
                hits += [hit.now] * cost if hit.allowed else []
                continue
            refused_by_memory += 1
            assert before.remaining == 0
            # It counts from the reply, which was so late at most.
            assert known.seconds_until_allowed <= before.seconds_until_one_fits + slowest + 0.01
            await asyncio.sleep(0.001)

    # Of any second three, by Redis's clock; which it reports in milliseconds.
    assert all(later - earlier > 0.99 for earlier, later in zip(hits, hits[3:], strict=False))


async def test_a_spent_budget_stays_spent_when_redis_goes_away(separate_redis: Valkey) -> None:
    async with opened(separate_redis.url, waiting=0.5, probe_every=60) as windows:
        for key, cost in (("ada", 100), ("bob", 99)):
            await windows.hit(key, MINUTE, cost)
        separate_redis.kill()

        ada_client = [await windows.hit("ada", MINUTE, 1) for _ in range(20)]
        bob_client = [await windows.hit("bob", MINUTE, 1) for _ in range(20)]

    assert not any(standing.allowed for standing in ada_client)
    assert all(standing.allowed for standing in bob_client)
    assert all(0 < standing.seconds_until_allowed <= 60 for standing in ada_client)


@pytest.fixture
def separate_redis() -> Iterator[Valkey]:
    """A Valkey of the test's own, to be ill-treated."""
    with embedded_valkey() as server:
        yield server


async def test_what_is_known_of_spent_budgets_is_bounded(
    valkey: Valkey, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spent_windows, "MAX_SPENT", 100)
    one = Limit(1, 60)
    async with opened(valkey.url) as windows:
        for number in range(500):
            await windows.hit(f"address {number}", one, 1, anonymous=True)
        await windows.hit("ada", one, 1)

        assert windows.cached_refusal("ada", one)
        known = [
            number for number in range(500)
            if windows.cached_refusal(f"address {number}", one, anonymous=True)
        ]  # fmt: skip
        assert known == list(range(400, 500))


async def test_nothing_known_is_kept_past_its_time(valkey: Valkey, redis: Redis) -> None:
    async with opened(valkey.url) as windows:
        for number in range(50):
            await windows.hit(f"person {number}", Limit(1, 1), 1)
        await asyncio.sleep(1.1)

        await windows.hit("ada", Limit(1, 60), 1)

        assert list(windows._spent._viewers) == ["ada"]


# --- Windows in this process --------------------------------------------------------------


async def test_invented_addresses_reset_no_spent_budget() -> None:
    windows = LocalSlidingWindow()
    await windows.hit("ada", MINUTE, 100)
    await windows.hit("spent address", MINUTE, 100, anonymous=True)

    invented = [
        await windows.hit(f"address {number}", MINUTE, 1, anonymous=True)
        for number in range(20_000)
    ]

    assert not (await windows.hit("ada", MINUTE, 1)).allowed
    assert not (await windows.hit("spent address", MINUTE, 1, anonymous=True)).allowed
    # The first ones have windows of their own, the others share one.
    assert sum(standing.allowed for standing in invented) == 9_999 + 100
    # People are not touched by that.
    assert (await windows.hit("bob", MINUTE, 1)).allowed


async def test_a_table_of_addresses_is_full_only_while_its_windows_live() -> None:
    now = 0.0
    windows = LocalSlidingWindow(max_addresses=10, clock=lambda: now)
    for number in range(200):
        await windows.hit(f"address {number}", MINUTE, 1, anonymous=True)
    crowded = await windows.hit("newcomer", MINUTE, 1, anonymous=True)

    now = 61.0
    fresh = await windows.hit("newcomer", MINUTE, 1, anonymous=True)

    assert (crowded.allowed, fresh.remaining) == (False, 99)


async def test_of_people_those_who_have_something_left_are_forgotten_first() -> None:
    windows = LocalSlidingWindow(max_viewers=10)
    await windows.hit("ada", MINUTE, 100)

    for number in range(100):
        await windows.hit(f"person {number}", MINUTE, 1)

    assert windows.cached_refusal("ada", MINUTE)


async def test_looking_at_a_window_keeps_nothing() -> None:
    windows = LocalSlidingWindow(max_viewers=2)
    await windows.hit("ada", MINUTE, 10)

    for number in range(10):
        await windows.hit(f"person {number}", MINUTE, 0)
        assert windows.cached_refusal(f"person {number}", MINUTE) is None

    assert (await windows.hit("ada", MINUTE, 0)).remaining == 90


@pytest.mark.parametrize("amount", [1_000, 1_000_000])
async def test_a_window_has_a_bound_in_bytes_however_high_its_limit(amount: int) -> None:
    now = 0.0
    windows = LocalSlidingWindow(clock=lambda: now)
    limit = Limit(amount, 60)
    tracemalloc.start()

    for number in range(20_000):
        now = 60 * number / 20_000
        await windows.hit("ada", limit, amount // 20_000 or 1)

    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 40_000


async def test_hits_that_are_counted_together_never_leave_too_early() -> None:
    now = 0.0
    windows = LocalSlidingWindow(clock=lambda: now)
    limit = Limit(2_000, 60)
    admitted: list[float] = []
    while now < 180:
        if (await windows.hit("ada", limit, 1)).allowed:
            admitted.append(now)
        now += 0.011

    for number, time_of in enumerate(admitted[limit.amount :]):
        assert time_of - admitted[number] >= limit.seconds
    # And hardly too late: a thousandth of the window each time.
    assert len(admitted) >= 3 * limit.amount * 0.99


# --- A stalled event loop -----------------------------------------------------------------


@asynccontextmanager
async def stalling(seconds: float) -> AsyncIterator[None]:
    """The event loop stands still again and again while the block runs."""

    async def stall() -> None:
        while True:
            time.sleep(seconds)  # noqa: ASYNC251  # that is the attack
            await asyncio.sleep(0)

    task = asyncio.create_task(stall())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_a_stalled_loop_admits_nobody_whose_budget_is_spent(
    loop: str, valkey: Valkey, redis: Redis
) -> None:
    # In a loop of its own: uvloop fires timers before it reads, asyncio after.
    run = {"asyncio": asyncio.run, "uvloop": uvloop.run}[loop]

    standings, control, is_degraded = await asyncio.to_thread(
        run, hit_beside_stalls(valkey.url, waiting=0.1, stall=0.12)
    )

    # What asyncio's own time-out makes of the same stalls.
    assert False in control
    assert [standing.allowed for standing in standings] == [False] * 40
    assert not is_degraded


@pytest.mark.drill
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_a_loop_that_is_stalled_for_minutes_admits_nobody_whose_budget_is_spent(
    loop: str, valkey: Valkey, redis: Redis
) -> None:
    run = {"asyncio": asyncio.run, "uvloop": uvloop.run}[loop]

    for _ in range(10):
        standings, control, is_degraded = await asyncio.to_thread(
            run, hit_beside_stalls(valkey.url, waiting=0.5, stall=0.6)
        )

        assert False in control
        assert not any(standing.allowed for standing in standings)
        assert not is_degraded
        await redis.flushall()


async def hit_beside_stalls(
    url: str, *, waiting: float, stall: float
) -> tuple[list[WindowState], list[bool], bool]:
    """Hits of a window that another instance spent, and pings with a time-out of asyncio's."""
    async with (
        opened(url, waiting=waiting) as windows,
        opened(url) as other,
        Redis.from_url(url) as redis,
    ):
        await other.hit("ada", MINUTE, 100)
        async with stalling(stall):
            pings = asyncio.gather(*(within_usual_timeout(redis, waiting) for _ in range(5)))
            standings = await asyncio.gather(*(one_by_one(windows, n) for n in range(40)))
            return standings, await pings, windows.is_degraded


async def one_by_one(windows: RedisSlidingWindow, number: int) -> WindowState:
    await asyncio.sleep(number * 0.01)
    return await windows.hit("ada", MINUTE, 1)


async def within_usual_timeout(redis: Redis, seconds: float) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            return bool(await redis.ping())
    return False


async def test_hits_are_counted_on_redis_beside_a_stalled_loop(
    valkey: Valkey, redis: Redis
) -> None:
    async with opened(valkey.url, waiting=0.1) as windows:
        async with stalling(0.12):
            standings = await asyncio.gather(*(windows.hit("bob", MINUTE, 1) for _ in range(40)))

        assert sorted(standing.remaining for standing in standings) == list(range(60, 100))
        assert await redis.llen("bob") == 40


async def test_in_a_loop_that_runs_a_time_out_takes_as_long_as_it_says() -> None:
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        async with ResponsiveTimeout(0.2):
            await asyncio.sleep(10)
    ours = time.monotonic() - began

    began = time.monotonic()
    with suppress(TimeoutError):
        async with asyncio.timeout(0.2):
            await asyncio.sleep(10)
    control = time.monotonic() - began

    assert ours >= 0.19
    assert ours < control + 0.2


async def test_a_stalled_loop_does_not_wait_for_ever() -> None:
    turns: list[None] = []

    async def stall() -> None:
        async with ResponsiveTimeout(0.05):
            while True:
                turns.append(None)
                time.sleep(0.06)  # noqa: ASYNC251  # that is the attack
                await asyncio.sleep(0)

    with pytest.raises(TimeoutError):
        await stall()

    assert 10 <= len(turns) <= 40
