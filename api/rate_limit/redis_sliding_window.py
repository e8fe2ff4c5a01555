"""Sliding windows on Redis, which all instances share, and the fallback while Redis is away."""

from __future__ import annotations

import asyncio
import logging
import math
from typing import Final, Literal

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError

from api.rate_limit.breaker import CircuitBreaker
from api.rate_limit.sliding_window import Limit, LocalSlidingWindow, WindowState
from api.rate_limit.spent_windows import SpentWindows
from api.rate_limit.timeout import ResponsiveTimeout
from persistence.sessions.cache import elapsed

_log = logging.getLogger("twofold.budget")

# The hits of a window are a list of times in microseconds, newest first. Redis's own clock
# decides, so that the clocks of the instances may differ.
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
"""The most hits that call Redis at the same time; one takes less than a millisecond."""

CONNECT_TIMEOUT: Final = 10.0
"""Seconds for closing a connection; opening one is bounded by the time-out of the hit."""

_PROBE: Final = "twofold:probe"


class RedisSlidingWindow:
    """Windows that all instances share: exact, one round trip a hit, bounded in time.

    A hit that Redis does not answer within ``timeout`` is counted in this process. After three
    failures in a row Redis is not called: hits are counted in this process until a probe in the
    background succeeds. A window that Redis reported as spent remains spent here until the time
    that Redis reported, even if a Redis that was emptied since would allow hits sooner.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``.
        timeout: in seconds. The time in which the event loop is blocked does not count.
        probe_every: seconds between two probes.
    """

    def __init__(self, url: str, timeout: float, probe_every: float = 1.0) -> None:
        self._redis = Redis.from_url(
            url,
            # A hit has its own time-out, because a blocked event loop would use up redis-py's.
            # The first of these also bounds closing a connection.
            socket_connect_timeout=CONNECT_TIMEOUT,
            socket_timeout=None,
            retry=Retry(NoBackoff(), 1),
            health_check_interval=0,
        )
        self._timeout = timeout
        self._probe_every = probe_every
        self._local = LocalSlidingWindow()
        self._spent = SpentWindows()
        self._script = ""
        self._breaker = CircuitBreaker()
        # Further hits wait here. redis-py's own bound raises an error, which would count as a
        # failure of Redis.
        self._connections = asyncio.Semaphore(MAX_CONNECTIONS)
        self._pending: set[ResponsiveTimeout] = set()
        self._probing: asyncio.Task[None] | None = None

    @property
    def redis_status(self) -> Literal["ok", "degraded"]:
        """Whether Redis counts the hits, or this process does."""
        return "degraded" if self.is_degraded else "ok"

    @property
    def is_degraded(self) -> bool:
        """Whether hits are counted in this process because Redis does not answer."""
        return self._breaker.is_open

    async def open(self) -> None:
        """Load the script into Redis. If Redis does not answer, start without it."""
        try:
            async with ResponsiveTimeout(self._timeout):
                await self._load_script()
        except Exception as error:
            self._stop_calling(error)

    async def close(self) -> None:
        """Close the connections."""
        if self._probing:
            self._probing.cancel()
        await self._redis.aclose()

    async def hit(
        self, key: str, limit: Limit, cost: int, *, anonymous: bool = False
    ) -> WindowState:
        """See ``SlidingWindow.hit``."""
        if self._breaker.is_open:
            return await self._hit_locally(key, limit, cost, anonymous)
        try:
            async with ResponsiveTimeout(self._timeout) as timeout:
                self._pending.add(timeout)
                try:
                    async with self._connections:
                        state = await self._call(key, limit, cost, anonymous)
                finally:
                    self._pending.discard(timeout)
        # Any exception: redis-py turns a malformed reply into a TypeError, for example.
        except Exception as error:
            if self._breaker.record_failure():
                self._stop_calling(error)
            return await self._hit_locally(key, limit, cost, anonymous)
        self._breaker.record_success()
        return state

    def cached_refusal(
        self, key: str, limit: Limit, *, anonymous: bool = False
    ) -> WindowState | None:
        """See ``SlidingWindow.cached_refusal``."""
        refusal = self._spent.refusal(key, anonymous)
        if refusal is None and self._breaker.is_open:
            return self._local.cached_refusal(key, limit, anonymous=anonymous)
        return refusal

    async def _hit_locally(self, key: str, limit: Limit, cost: int, anonymous: bool) -> WindowState:
        refusal = self._spent.refusal(key, anonymous)
        if refusal is None:
            return await self._local.hit(key, limit, cost, anonymous=anonymous)
        if cost == 0:
            return refusal._replace(allowed=True, fits_in=0.0)
        if cost > limit.amount:
            return refusal._replace(fits_in=math.inf)
        # Only Redis knows when more than 1 fits; everything fits when the window is empty.
        return refusal if cost == 1 else refusal._replace(fits_in=refusal.full_in)

    async def _call(
        self, key: str, limit: Limit, cost: int, anonymous: bool = False
    ) -> WindowState:
        arguments = (1, key, limit.amount, limit.seconds, cost)
        called_at = elapsed()
        try:
            reply = await self._redis.evalsha(self._script, *arguments)
        except NoScriptError:  # Redis was restarted or flushed.
            reply = await self._redis.eval(_SCRIPT, *arguments)
        allowed, remaining, *micros = reply
        fits_in, full_in, now, one_fits_in = (int(number) / 1e6 for number in micros)
        state = WindowState(
            allowed == 1,
            limit,
            max(remaining, 0),
            math.inf if cost > limit.amount else fits_in,
            full_in,
            now,
            one_fits_in,
        )
        if one_fits_in > 0:
            self._spent.store(key, state, called_at, anonymous)
        return state

    def _stop_calling(self, error: Exception) -> None:
        if self._breaker.is_open:
            return
        self._breaker.open()
        _log.warning(
            "Redis does not answer (%s); each instance counts by itself until it does",
            self._reason(error),
        )
        # Hits that still wait would fail too: end them now.
        for timeout in self._pending:
            timeout.expire()
        self._probing = asyncio.create_task(self._probe())

    def _reason(self, error: Exception) -> str:
        """What failed, and at which server: one line, without credentials that Redis repeats."""
        text = str(error).partition("\n")[0].partition("with args")[0]
        server = self._redis.connection_pool.connection_kwargs
        for secret in filter(None, (server.get("password"), server.get("username"))):
            text = text.replace(secret, "********")
        text = text.rstrip(" ,.") or f"nothing within {self._timeout:g} s"
        host, port = server.get("host", "localhost"), server.get("port", 6379)
        address = server.get("path") or f"{host}:{port}"
        reason = f"{type(error).__name__}: {text}"[:200]
        return reason if address in reason else f"{reason}, at {address}"

    async def _probe(self) -> None:
        while self._breaker.is_open:
            await asyncio.sleep(self._probe_every)
            try:
                async with ResponsiveTimeout(self._timeout):
                    # On a new connection: the old ones may lead to a server that is gone.
                    await self._redis.connection_pool.disconnect(inuse_connections=False)
                    await self._load_script()
                    # A Redis that is full, or a replica, fails only when it has to write.
                    await self._call(_PROBE, Limit(1000, 1), 1)
            except Exception:  # The reason was logged when the breaker opened.
                continue
            self._breaker.close()
            _log.info("Redis answers again; one budget for all instances")

    async def _load_script(self) -> None:
        self._script = await self._redis.script_load(_SCRIPT)
