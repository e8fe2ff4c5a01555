"""Moving windows on Redis, which all instances share; and what this process does without it."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Self

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError

from api.rate_limit.sliding_window import Limit, LocalWindows, Standing
from persistence.sessions.cache import elapsed

_log = logging.getLogger("twofold.budget")

# The hits of a window are a list of times in microseconds, newest first. Redis's own clock
# decides, so that the clocks of the instances may disagree.
_SCRIPT: Final = """
local key, amount, window, cost = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]) * 1000000, tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local oldest = redis.call('LINDEX', key, -1)
while oldest and tonumber(oldest) <= now - window do
  redis.call('RPOP', key)
  oldest = redis.call('LINDEX', key, -1)
end
local count, allowed, fits = redis.call('LLEN', key), 0, 0
if count + cost <= amount then
  allowed = 1
  if cost > 0 then
    local hit = string.format('%.0f', now)
    for _ = 1, cost do redis.call('LPUSH', key, hit) end
    redis.call('PEXPIRE', key, ARGV[2] * 1000 + 1000)
    count = count + cost
  end
elseif cost <= amount then
  fits = tonumber(redis.call('LINDEX', key, amount - cost - count)) + window - now
end
local one = 0
if count >= amount then
  one = tonumber(redis.call('LINDEX', key, amount - 1 - count)) + window - now
end
local newest = redis.call('LINDEX', key, 0)
local full = newest and tonumber(newest) + window - now or 0
local function text(number) return string.format('%.0f', number) end
return {allowed, amount - count, text(fits), text(full), text(now), text(one)}
"""  # noqa: E501


MAX_CONNECTIONS: Final = 50
"""How many hits ask Redis at the same time; one takes less than a millisecond."""

CONNECT_TIMEOUT: Final = 10.0
"""Seconds for closing a connection; opening one is bounded by the time-out of the hit."""

MAX_SPENT: Final = 10_000
"""Spent windows of people that are remembered, and as many of addresses; about 400 bytes each."""

CLOCK_DRIFT: Final = 0.001
"""By how much Redis's clock may run faster than ours: NTP corrects by half of this at most."""

_PROBE: Final = "twofold:probe"


@dataclass(slots=True)
class Breaker:
    """Whether Redis is asked at all: not after several failures in a row, until it answers again.

    One failure proves nothing, a busy event loop can fake a time-out; and a breaker that opened
    at the first let through more than the limit.
    """

    failures_to_open: int = 3
    failures: int = 0
    is_open: bool = False


TICKS: Final = 20
"""Parts of a time-out: at least half as many turns of the event loop pass before it fires."""


class ResponsiveTimeout:
    """A time-out that counts the time in which the event loop runs, not that of a stall.

    After a stall ``asyncio.timeout`` fires in the same turn of the loop in which a reply that has
    long been there is read, or before it: of 40 replies that Redis had sent in less than a
    millisecond, none was in time beside a callback that takes 600 ms. A reply on an open
    connection needs three turns, one that has to be opened about fifteen.

    Args:
        seconds: how long the block may take.

    Raises:
        TimeoutError: the block took longer, or ``expire`` was called.
    """

    __slots__ = ("_left", "_loop", "_since", "_tick", "_timeout", "_timer")

    def __init__(self, seconds: float) -> None:
        self._left = seconds
        self._tick = seconds / TICKS

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._timeout = asyncio.timeout(None)
        await self._timeout.__aenter__()
        self._since = time.monotonic()
        self._timer = self._loop.call_later(self._tick, self._count)
        return self

    async def __aexit__(self, *raised: Any) -> None:
        self._timer.cancel()
        await self._timeout.__aexit__(*raised)

    def expire(self) -> None:
        """End the block now, unless it has ended."""
        # One that ran out at this very moment can't be told again.
        if not self._timeout.expired():
            self._timeout.reschedule(self._loop.time())

    def _count(self) -> None:
        now = time.monotonic()
        self._left -= min(now - self._since, 2 * self._tick)
        self._since = now
        if self._left > 0:
            self._timer = self._loop.call_later(min(self._tick, self._left), self._count)
        else:
            self.expire()


class SpentWindows:
    """Which windows Redis said have nothing left, and until when not even a hit of 1 fits.

    Exact: it ends before Redis would allow a hit. In bounded memory: entries go when their time
    has passed, and the oldest ones beyond ``MAX_SPENT``; then Redis is asked again.
    """

    def __init__(self) -> None:
        self._people: OrderedDict[str, _Spent] = OrderedDict()
        self._addresses: OrderedDict[str, _Spent] = OrderedDict()

    def remember(self, key: str, standing: Standing, asked_at: float, anonymous: bool) -> None:
        """Keep a standing with nothing left. ``asked_at``: ``elapsed`` before Redis was asked."""
        table = self._table(anonymous)
        now = elapsed()
        # From before the question, and less what clocks drift apart: never later than by Redis.
        until = asked_at + standing.one_fits_in * (1 - CLOCK_DRIFT)
        table.pop(key, None)
        table[key] = _Spent(until, now, standing)
        while table and (len(table) > MAX_SPENT or next(iter(table.values())).until <= now):
            table.popitem(last=False)

    def refusal(self, key: str, anonymous: bool) -> Standing | None:
        """The refusal of a hit of 1 as Redis would give it now, if it is known."""
        table = self._table(anonymous)
        known = table.get(key)
        if known is None:
            return None
        now = elapsed()
        if now >= known.until:
            del table[key]
            return None
        # From after the answer, so that nobody is told a time that is too early.
        passed = now - known.answered_at
        standing = known.standing
        return standing._replace(
            allowed=False,
            fits_in=standing.one_fits_in - passed,
            one_fits_in=standing.one_fits_in - passed,
            full_in=standing.full_in - passed,
            now=standing.now + passed,
        )

    def _table(self, anonymous: bool) -> OrderedDict[str, _Spent]:
        return self._addresses if anonymous else self._people


class _Spent(NamedTuple):
    until: float
    answered_at: float
    standing: Standing


class RedisWindows:
    """Windows that all instances share: one round trip a hit, exact, and bounded in time.

    A hit waits for at most ``timeout`` seconds and is then counted in this process. After three
    failures in a row Redis is not asked any more: hits are counted here, until a probe in the
    background finds Redis answering again. A window that Redis said is spent stays spent here
    until the time that Redis said, whoever counts; a Redis that was emptied meanwhile would allow
    hits sooner.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``.
        timeout: in seconds. Time in which the event loop stands still does not count.
        probe_every: seconds between two probes.
    """

    def __init__(self, url: str, timeout: float, probe_every: float = 1.0) -> None:
        self._redis = Redis.from_url(
            url,
            # A hit has a time-out of its own, which a stalled event loop does not use up. These
            # would be used up; the first one also bounds closing a connection.
            socket_connect_timeout=CONNECT_TIMEOUT,
            socket_timeout=None,
            retry=Retry(NoBackoff(), 1),
            health_check_interval=0,
        )
        self._timeout = timeout
        self._probe_every = probe_every
        self._local = LocalWindows()
        self._spent = SpentWindows()
        self._script = ""
        self._breaker = Breaker()
        # A rush takes turns. redis-py's own bound would be an error, and that a failure of Redis.
        self._connections = asyncio.Semaphore(MAX_CONNECTIONS)
        self._waiting: set[ResponsiveTimeout] = set()
        self._probing: asyncio.Task[None] | None = None

    @property
    def is_degraded(self) -> bool:
        """Whether hits are counted in this process because Redis does not answer."""
        return self._breaker.is_open

    async def open(self) -> None:
        """Hand Redis the script; a Redis that is away is no reason not to start."""
        try:
            async with ResponsiveTimeout(self._timeout):
                await self._load_script()
        except Exception as error:
            self._stop_asking(error)

    async def close(self) -> None:
        """Give the connections back."""
        if self._probing:
            self._probing.cancel()
        await self._redis.aclose()

    async def hit(self, key: str, limit: Limit, cost: int, *, anonymous: bool = False) -> Standing:
        """See ``Windows.hit``."""
        if self._breaker.is_open:
            return await self._hit_locally(key, limit, cost, anonymous)
        try:
            async with ResponsiveTimeout(self._timeout) as timeout:
                self._waiting.add(timeout)
                try:
                    async with self._connections:
                        standing = await self._ask(key, limit, cost, anonymous)
                finally:
                    self._waiting.discard(timeout)
        # Whatever it is: of an answer that no Redis gives, the client makes a TypeError or worse.
        except Exception as error:
            self._failed(error)
            return await self._hit_locally(key, limit, cost, anonymous)
        self._breaker.failures = 0
        return standing

    def spent(self, key: str, limit: Limit, *, anonymous: bool = False) -> Standing | None:
        """See ``Windows.spent``."""
        refusal = self._spent.refusal(key, anonymous)
        if refusal is None and self._breaker.is_open:
            return self._local.spent(key, limit, anonymous=anonymous)
        return refusal

    async def _hit_locally(self, key: str, limit: Limit, cost: int, anonymous: bool) -> Standing:
        refusal = self._spent.refusal(key, anonymous)
        if refusal is None:
            return await self._local.hit(key, limit, cost, anonymous=anonymous)
        if cost == 0:
            return refusal._replace(allowed=True, fits_in=0.0)
        if cost > limit.amount:
            return refusal._replace(fits_in=math.inf)
        # When more than 1 fits again, Redis alone knows; everything fits when all is left.
        return refusal if cost == 1 else refusal._replace(fits_in=refusal.full_in)

    async def _ask(self, key: str, limit: Limit, cost: int, anonymous: bool = False) -> Standing:
        arguments = (1, key, limit.amount, limit.seconds, cost)
        asked_at = elapsed()
        try:
            answer = await self._redis.evalsha(self._script, *arguments)
        except NoScriptError:  # Redis was restarted or flushed.
            answer = await self._redis.eval(_SCRIPT, *arguments)
        allowed, remaining, *micros = answer
        fits_in, full_in, now, one_fits_in = (int(number) / 1e6 for number in micros)
        standing = Standing(
            allowed == 1,
            limit,
            max(remaining, 0),
            math.inf if cost > limit.amount else fits_in,
            full_in,
            now,
            one_fits_in,
        )
        if one_fits_in > 0:
            self._spent.remember(key, standing, asked_at, anonymous)
        return standing

    def _failed(self, error: Exception) -> None:
        self._breaker.failures += 1
        if self._breaker.failures >= self._breaker.failures_to_open:
            self._stop_asking(error)

    def _stop_asking(self, error: Exception) -> None:
        if self._breaker.is_open:
            return
        self._breaker.is_open = True
        _log.warning(
            "Redis does not answer (%s); each instance counts by itself until it does",
            self._reason(error),
        )
        # The failures of others have settled it for those who still wait.
        for timeout in self._waiting:
            timeout.expire()
        self._probing = asyncio.create_task(self._probe())

    def _reason(self, error: Exception) -> str:
        """What failed, and where: one line, without what Redis could repeat of our secrets."""
        told = str(error).partition("\n")[0].partition("with args")[0]
        server = self._redis.connection_pool.connection_kwargs
        for secret in filter(None, (server.get("password"), server.get("username"))):
            told = told.replace(secret, "********")
        told = told.rstrip(" ,.") or f"nothing within {self._timeout:g} s"
        host, port = server.get("host", "localhost"), server.get("port", 6379)
        place = server.get("path") or f"{host}:{port}"
        reason = f"{type(error).__name__}: {told}"[:200]
        return reason if place in reason else f"{reason}, at {place}"

    async def _probe(self) -> None:
        while self._breaker.is_open:
            await asyncio.sleep(self._probe_every)
            try:
                async with ResponsiveTimeout(self._timeout):
                    # On a new connection: who knows what the old ones lead to by now.
                    await self._redis.connection_pool.disconnect(inuse_connections=False)
                    await self._load_script()
                    # A Redis that is full, or a replica, answers until it is told to count.
                    await self._ask(_PROBE, Limit(1000, 1), 1)
            except Exception:  # it was told when the breaker opened
                continue
            self._breaker.failures = 0
            self._breaker.is_open = False
            _log.info("Redis answers again; one budget for all instances")

    async def _load_script(self) -> None:
        self._script = await self._redis.script_load(_SCRIPT)
