"""A window counts hits over a moving minute: exact on Redis, and the same in the process."""

from __future__ import annotations

import asyncio
import time

import pytest
from redis.asyncio import Redis

from api.charges import Limit
from api.rate_limit.redis_sliding_window import RedisSlidingWindow
from api.rate_limit.sliding_window import LocalSlidingWindow

MINUTE = Limit(100, 60)


async def test_a_hit_is_counted_whole_or_not_at_all(windows: RedisSlidingWindow) -> None:
    await windows.hit("ada", MINUTE, 98)

    refused = await windows.hit("ada", MINUTE, 3)
    fitting = await windows.hit("ada", MINUTE, 2)

    assert (refused.allowed, refused.remaining) == (False, 2)
    assert (fitting.allowed, fitting.remaining) == (True, 0)


async def test_the_window_moves() -> None:
    second = Limit(2, 1)
    clock = Clock()
    counted = LocalSlidingWindow(clock=clock)
    await counted.hit("ada", second, 1)
    clock.now += 0.6
    await counted.hit("ada", second, 1)
    full = await counted.hit("ada", second, 1)
    clock.now += 0.5

    one_left = await counted.hit("ada", second, 1)
    none_left = await counted.hit("ada", second, 1)

    # A fixed window would have let two more through here, at its edge.
    assert (full.allowed, one_left.allowed, none_left.allowed) == (False, True, False)
    assert (full.seconds_until_allowed, full.seconds_until_full) == (
        pytest.approx(0.4),
        pytest.approx(1.0),
    )


async def test_the_window_moves_on_redis(windows: RedisSlidingWindow) -> None:
    second = Limit(2, 1)
    # Again, if the machine was so late that a hit left the window which should have been in it.
    for attempt in range(50):
        key = f"ada {attempt}"
        first = await windows.hit(key, second, 1)
        await asyncio.sleep(0.6)
        other = await windows.hit(key, second, 1)
        full = await windows.hit(key, second, 1)
        await asyncio.sleep(max(0, 1.1 - (full.now - first.now)))
        one_left = await windows.hit(key, second, 1)
        none_left = await windows.hit(key, second, 1)
        if full.now < first.now + 0.99 and none_left.now < other.now + 0.99:
            break

    assert (full.allowed, one_left.allowed, none_left.allowed) == (False, True, False)
    assert full.seconds_until_allowed == pytest.approx(first.now + 1 - full.now, abs=0.01)
    assert full.seconds_until_full == pytest.approx(other.now + 1 - full.now, abs=0.01)


async def test_a_refusal_reports_when_this_cost_will_fit() -> None:
    second = Limit(3, 1)
    clock = Clock()
    counted = LocalSlidingWindow(clock=clock)
    await counted.hit("ada", second, 1)
    clock.now += 0.5
    await counted.hit("ada", second, 2)

    of_one = await counted.hit("ada", second, 1)
    of_three = await counted.hit("ada", second, 3)

    assert of_one.seconds_until_allowed == pytest.approx(0.5)
    assert of_three.seconds_until_allowed == pytest.approx(1.0)


async def test_a_refusal_reports_when_this_cost_will_fit_on_redis(
    windows: RedisSlidingWindow,
) -> None:
    three = Limit(3, 60)
    first = await windows.hit("ada", three, 1)
    await asyncio.sleep(0.2)
    other = await windows.hit("ada", three, 2)

    of_one = await windows.hit("ada", three, 1)
    of_three = await windows.hit("ada", three, 3)

    # By Redis's clock alone, however late this process was.
    assert of_one.seconds_until_allowed == pytest.approx(first.now + 60 - of_one.now, abs=0.01)
    assert of_three.seconds_until_allowed == pytest.approx(other.now + 60 - of_three.now, abs=0.01)
    assert of_three.seconds_until_allowed - of_one.seconds_until_allowed > 0.1


class Clock:
    """A clock that stands still."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("where", ["redis", "local"])
async def test_looking_costs_nothing(where: str, windows: RedisSlidingWindow) -> None:
    counted = {"redis": windows, "local": LocalSlidingWindow()}[where]
    await counted.hit("ada", MINUTE, 7)

    looks = [await counted.hit("ada", MINUTE, 0) for _ in range(3)]

    assert [look.remaining for look in looks] == [93, 93, 93]


async def test_a_hit_is_one_round_trip(windows: RedisSlidingWindow, redis: Redis) -> None:
    await windows.hit("ada", MINUTE, 3)
    before = (await redis.info("commandstats"))["cmdstat_evalsha"]["calls"]
    commands = (await redis.info("stats"))["total_commands_processed"]

    for _ in range(10):
        await windows.hit("ada", MINUTE, 3)

    after = await redis.info("commandstats")
    assert after["cmdstat_evalsha"]["calls"] - before == 10
    assert "cmdstat_eval" not in after
    assert (await redis.info("stats"))["total_commands_processed"] > commands


async def test_keys_expire(windows: RedisSlidingWindow, redis: Redis) -> None:
    await windows.hit("ada", MINUTE, 1)

    assert 60_000 < await redis.pttl("ada") <= 61_000


async def test_redis_clock_decides_not_the_instances(
    windows: RedisSlidingWindow, monkeypatch: pytest.MonkeyPatch
) -> None:
    await windows.hit("ada", MINUTE, 60)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 3600)

    standing = await windows.hit("ada", MINUTE, 60)

    assert not standing.allowed
    assert standing.now == pytest.approx(real(), abs=5)


async def test_local_windows_forget_the_person_who_was_hit_least_recently() -> None:
    windows = LocalSlidingWindow(max_viewers=2)
    for key in ("ada", "bob", "eve"):
        await windows.hit(key, MINUTE, 10)

    eve = await windows.hit("eve", MINUTE, 0)
    ada = await windows.hit("ada", MINUTE, 0)

    assert (eve.remaining, ada.remaining) == (90, 100)


async def test_a_rush_takes_turns(windows: RedisSlidingWindow) -> None:
    many = Limit(1000, 60)

    standings = await asyncio.gather(*(windows.hit("ada", many, 1) for _ in range(1000)))

    assert sorted(standing.remaining for standing in standings) == list(range(1000))
    assert not windows.is_degraded


async def test_an_emptied_script_cache_costs_one_more_trip_and_no_failure(
    windows: RedisSlidingWindow, redis: Redis
) -> None:
    await redis.script_flush()

    standing = await windows.hit("ada", MINUTE, 1)

    assert standing.remaining == 99
    assert not windows.is_degraded


async def test_a_clock_that_goes_back_keeps_a_budget_spent_for_two_windows_at_most(
    windows: RedisSlidingWindow, redis: Redis
) -> None:
    now = int((await redis.time())[0])
    for seconds_ahead in (50, 3600):
        hits = [(now + seconds_ahead) * 1_000_000] * MINUTE.amount
        await redis.rpush(f"of {seconds_ahead}", *hits)

    recent = await windows.hit("of 50", MINUTE, 1)
    long_ago = await windows.hit("of 3600", MINUTE, 1)

    assert not recent.allowed
    assert recent.seconds_until_allowed <= 2 * MINUTE.seconds
    assert long_ago.allowed
