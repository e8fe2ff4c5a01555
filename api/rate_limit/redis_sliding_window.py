"""Sliding windows on Redis, which all instances share, and the fallback while Redis is away."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Sequence
from typing import Any, Final, Literal

from hiredis import ReplyError

from api.charges import Limit, WindowState
from api.rate_limit.breaker import CircuitBreaker
from api.rate_limit.redis_connection import RedisConnection, UnusableRedis, describe_failure
from api.rate_limit.sliding_window import LocalSlidingWindow
from api.rate_limit.spent_windows import SpentWindows
from api.rate_limit.timeout import ResponsiveTimeout
from persistence.clock import elapsed
from persistence.redis_url import RedisServer

_log = logging.getLogger("twofold.budget")

# The hits of a window are a list of times in microseconds, newest first. Redis's own clock
# decides, so that the clocks of the instances may differ. When it goes back by more than a window,
# what was counted before is forgotten; otherwise a budget could stay spent for as long as that.
SCRIPT: Final = """
local key, amount, window, cost = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]) * 1000000, tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local oldest = redis.call('LINDEX', key, -1)
while oldest and (tonumber(oldest) <= now - window or tonumber(oldest) > now + window) do
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

CHECK_TIMEOUT: Final = 1.0
"""Seconds after which a Redis that is checked does not count, also if a hit may wait longer."""

_PROBE: Final = Limit(1000, 1)
"""The limit of the keys that are hit only to see whether Redis counts."""


class RedisSlidingWindow:
    """Windows that all instances share: exact, one round trip a hit, bounded in time.

    A hit that Redis does not answer within ``timeout`` is counted in this process. After three
    failures in a row, or if another node has a key, Redis is not called: hits are counted in this
    process until a probe in the background succeeds. A window that Redis reported as spent remains
    spent here until the time that Redis reported, even if a Redis that was emptied since would
    allow hits sooner.

    Args:
        server: the Redis that all instances share.
        timeout: in seconds. The time in which the event loop is blocked does not count.
        probe_every: seconds between two probes.
        probe_keys: keys like those of the hits, one of each form: Redis may allow one and not
            another. They are hit to see whether Redis counts.
    """

    def __init__(
        self,
        server: RedisServer,
        timeout: float,
        probe_every: float = 1.0,
        probe_keys: Sequence[str] = ("twofold:probe",),
    ) -> None:
        self._server = server
        self._probe_keys = probe_keys
        self._timeout = timeout
        self._probe_every = probe_every
        self._local = LocalSlidingWindow()
        self.degraded_hits = 0
        self._spent = SpentWindows()
        self._script = b""
        self._moved_key: str | None = None
        self._breaker = CircuitBreaker()
        self._connection: RedisConnection | None = None
        self._opening: asyncio.Task[RedisConnection] | None = None
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
        """Load the script into Redis, and try it. If Redis does not answer, start without it.

        Raises:
            UnusableRedis: the server can never keep the budgets.
        """
        try:
            async with ResponsiveTimeout(self._timeout):
                await self._prepare(await self._connected())
        except UnusableRedis:
            raise
        except Exception as error:
            self._stop_calling(error)

    async def close(self) -> None:
        """Close the connection."""
        for task in self._probing, self._opening:
            if task:
                task.cancel()
        if self._connection:
            self._connection.abort()

    async def check(self) -> None:
        """Find out whether Redis still counts: in one round trip, or as long as one may take."""
        if not self._breaker.is_open:
            # As many as open the breaker if none succeeds.
            number = self._breaker.failures_to_open
            key = self._probe_keys[0]
            try:
                async with ResponsiveTimeout(min(self._timeout, CHECK_TIMEOUT)):
                    await asyncio.gather(*(self.hit(key, _PROBE, 0) for _ in range(number)))
            except TimeoutError as error:
                self._stop_calling(error)

    async def hit(
        self, key: str, limit: Limit, cost: int, *, anonymous: bool = False
    ) -> WindowState:
        """See ``SlidingWindow.hit``."""
        if self._breaker.is_open:
            return await self._hit_locally(key, limit, cost, anonymous)
        called_at = elapsed()
        try:
            reply = await self._call(key, limit, cost, called_at)
            state = _state(reply, limit, cost)
        # Any exception: another server in the place of Redis may reply anything.
        except Exception as error:
            if _is_elsewhere(error):
                # Until the probe finds this very key here: other keys say nothing about it.
                self._moved_key = key
                self._stop_calling(error)
            elif self._breaker.record_failure():
                self._stop_calling(error)
            return await self._hit_locally(key, limit, cost, anonymous)
        self._breaker.record_success()
        if state.seconds_until_one_fits > 0:
            self._spent.store(key, state, called_at, anonymous)
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
        self.degraded_hits += 1
        refusal = self._spent.refusal(key, anonymous)
        if refusal is None:
            return await self._local.hit(key, limit, cost, anonymous=anonymous)
        if cost == 0:
            return refusal._replace(allowed=True, seconds_until_allowed=0.0)
        if cost > limit.amount:
            return refusal._replace(seconds_until_allowed=math.inf)
        # Only Redis knows when more than 1 fits; everything fits when the window is empty.
        return (
            refusal
            if cost == 1
            else refusal._replace(seconds_until_allowed=refusal.seconds_until_full)
        )

    async def _call(self, key: str, limit: Limit, cost: int, called_at: float) -> Any:
        """Run the script, and return its reply. A lost connection is replaced once."""
        if (connection := self._connection) is not None and not connection.is_closed():
            try:
                return await self._run(connection, key, limit, cost)
            except OSError:
                # While the breaker is open, only the probe connects.
                if not connection.is_closed() or self._breaker.is_open:
                    raise
        left = self._timeout - (elapsed() - called_at)
        async with ResponsiveTimeout(left):
            return await self._run(await self._connected(), key, limit, cost)

    async def _run(self, connection: RedisConnection, key: str, limit: Limit, cost: int) -> Any:
        arguments = (1, key, limit.amount, limit.seconds, cost)
        try:
            return await connection.call("EVALSHA", self._script, *arguments)
        except ReplyError as error:
            if not str(error).startswith("NOSCRIPT"):  # Redis was restarted or flushed.
                raise
        return await connection.call("EVAL", SCRIPT, *arguments)

    async def _connected(self) -> RedisConnection:
        """The connection; if there is none, all who need it wait for the same new one."""
        if self._connection is not None and not self._connection.is_closed():
            return self._connection
        if self._opening is None:
            self._opening = asyncio.create_task(self._open_connection())
            self._opening.add_done_callback(self._note_connection)
        return await asyncio.shield(self._opening)

    async def _open_connection(self) -> RedisConnection:
        async with ResponsiveTimeout(self._timeout):
            return await RedisConnection.open(self._server, self._timeout)

    def _note_connection(self, opening: asyncio.Task[RedisConnection]) -> None:
        self._opening = None
        if not opening.cancelled() and opening.exception() is None:
            self._connection = opening.result()

    def _stop_calling(self, error: Exception) -> None:
        if self._breaker.is_open:
            return
        self._breaker.open()
        _log.warning(
            "Redis does not answer (%s); each instance counts by itself until it does",
            describe_failure(error, self._server, self._timeout),
        )
        # The commands that still wait would fail too: end them now.
        if self._connection:
            self._connection.abort()
        self._probing = asyncio.create_task(self._probe())

    async def _probe(self) -> None:
        while self._breaker.is_open:
            await asyncio.sleep(self._probe_every)
            try:
                async with ResponsiveTimeout(self._timeout):
                    await self._prepare(await self._connected())
            except Exception:  # The reason was logged when the breaker opened.
                # The next probe needs a new one: this may lead to a server that is gone.
                if self._connection:
                    self._connection.abort()
                continue
            self._breaker.close()
            _log.info("Redis answers again; one budget for all instances")

    async def _prepare(self, connection: RedisConnection) -> None:
        self._script = await connection.call("SCRIPT", "LOAD", SCRIPT)
        for key in self._probe_keys:
            # A Redis that is full, or a replica, fails only when it has to write.
            _state(await self._run(connection, key, _PROBE, 1), _PROBE, 1)
        if self._moved_key is not None:
            await self._run(connection, self._moved_key, _PROBE, 0)
            self._moved_key = None


def _is_elsewhere(error: Exception) -> bool:
    """Whether Redis is part of a cluster after all, and another node has the key."""
    return isinstance(error, ReplyError) and str(error).startswith(("MOVED", "ASK", "CLUSTERDOWN"))


def _state(reply: Any, limit: Limit, cost: int) -> WindowState:
    """What the script's reply says."""
    allowed, remaining, seconds_until_allowed, seconds_until_full, now, seconds_until_one_fits = (
        reply
    )
    return WindowState(
        allowed == 1,
        limit,
        max(remaining, 0),
        math.inf if cost > limit.amount else int(seconds_until_allowed) / 1e6,
        int(seconds_until_full) / 1e6,
        int(now) / 1e6,
        int(seconds_until_one_fits) / 1e6,
    )
