"""Moving windows: how much of a limit is left, on Redis for all instances or in this process.

Knows keys and numbers; knows no requests, no people and no prices.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError

_log = logging.getLogger("twofold.budget")


class Limit(NamedTuple):
    """At most ``amount`` within any ``seconds``."""

    amount: int
    seconds: int


class Standing(NamedTuple):
    """How a window stands after a hit.

    Attributes:
        allowed: whether the hit was counted; it counts whole or not at all.
        limit: what the window allows.
        remaining: what is left of it now.
        fits_in: seconds until the hit would be allowed; 0 when it was.
        full_in: seconds until everything is left again.
        now: the Unix time by the clock that decided.
    """

    allowed: bool
    limit: Limit
    remaining: int
    fits_in: float
    full_in: float
    now: float


class Windows(Protocol):
    """Counts hits by key."""

    async def hit(self, key: str, limit: Limit, cost: int) -> Standing:
        """Count ``cost`` hits if all of them fit, else none. A cost of 0 only looks."""
        ...


class LocalWindows:
    """Windows in this process, of the keys seen last.

    Args:
        max_keys: whose windows are kept; beyond them those unused for longest are forgotten.
        clock: Unix time in seconds.
    """

    def __init__(self, max_keys: int = 10_000, clock: Callable[[], float] = time.time) -> None:
        self._hits: OrderedDict[str, deque[float]] = OrderedDict()
        self._max_keys = max_keys
        self._clock = clock

    async def hit(self, key: str, limit: Limit, cost: int) -> Standing:
        """See ``Windows.hit``."""
        now = self._clock()
        hits = self._window(key, now - limit.seconds)
        allowed = len(hits) + cost <= limit.amount
        if allowed:
            hits.extend([now] * cost)
        return Standing(
            allowed,
            limit,
            limit.amount - len(hits),
            0.0 if allowed else _fits_in(hits, limit, cost, now),
            hits[-1] + limit.seconds - now if hits else 0.0,
            now,
        )

    def _window(self, key: str, begins: float) -> deque[float]:
        hits = self._hits.setdefault(key, deque())
        self._hits.move_to_end(key)
        if len(self._hits) > self._max_keys:
            self._hits.popitem(last=False)
        while hits and hits[0] <= begins:
            hits.popleft()
        return hits


def _fits_in(hits: deque[float], limit: Limit, cost: int, now: float) -> float:
    """Seconds until as many hits have left the window as the cost needs."""
    must_leave = len(hits) + cost - limit.amount
    if must_leave > len(hits):
        return math.inf
    return hits[must_leave - 1] + limit.seconds - now


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
local newest = redis.call('LINDEX', key, 0)
local full = newest and tonumber(newest) + window - now or 0
return {allowed, amount - count, string.format('%.0f', fits), string.format('%.0f', full), string.format('%.0f', now)}
"""  # noqa: E501


MAX_CONNECTIONS: Final = 50
"""How many hits ask Redis at the same time; one takes less than a millisecond."""

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


class RedisWindows:
    """Windows that all instances share: one round trip a hit, exact, never in anyone's way.

    A hit waits for at most ``timeout`` seconds and is then counted in this process. After three
    failures in a row nobody waits any longer: hits are counted here, until a probe in the
    background, for which no request pays, finds Redis answering again.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``.
        timeout: in seconds.
        probe_every: seconds between two probes.
    """

    def __init__(self, url: str, timeout: float, probe_every: float = 1.0) -> None:
        self._redis = Redis.from_url(
            url,
            socket_connect_timeout=timeout,
            # The time-out of a hit is ours; one more on each socket operation only costs.
            socket_timeout=None,
            retry=Retry(NoBackoff(), 1),
            health_check_interval=0,
        )
        self._timeout = timeout
        self._probe_every = probe_every
        self._local = LocalWindows()
        self._script = ""
        self._breaker = Breaker()
        # A rush takes turns. redis-py's own bound would be an error, and that a failure of Redis.
        self._connections = asyncio.Semaphore(MAX_CONNECTIONS)
        self._waiting: set[asyncio.Timeout] = set()
        self._probing: asyncio.Task[None] | None = None

    @property
    def is_degraded(self) -> bool:
        """Whether hits are counted in this process because Redis does not answer."""
        return self._breaker.is_open

    async def open(self) -> None:
        """Hand Redis the script; a Redis that is away is no reason not to start."""
        try:
            async with asyncio.timeout(self._timeout):
                await self._load_script()
        except Exception as error:
            self._stop_asking(error)

    async def close(self) -> None:
        """Give the connections back."""
        if self._probing:
            self._probing.cancel()
        await self._redis.aclose()

    async def hit(self, key: str, limit: Limit, cost: int) -> Standing:
        """See ``Windows.hit``."""
        if self._breaker.is_open:
            return await self._local.hit(key, limit, cost)
        try:
            with self._bounded() as timeout:
                async with timeout, self._connections:
                    standing = await self._ask(key, limit, cost)
        # Whatever it is: of an answer that no Redis gives, the client makes a TypeError or worse.
        except Exception as error:
            self._failed(error)
            return await self._local.hit(key, limit, cost)
        self._breaker.failures = 0
        return standing

    async def _ask(self, key: str, limit: Limit, cost: int) -> Standing:
        arguments = (1, key, limit.amount, limit.seconds, cost)
        try:
            answer = await self._redis.evalsha(self._script, *arguments)
        except NoScriptError:  # Redis was restarted or flushed.
            answer = await self._redis.eval(_SCRIPT, *arguments)
        allowed, remaining, *micros = answer
        fits_in, full_in, now = (int(number) / 1e6 for number in micros)
        return Standing(
            allowed == 1,
            limit,
            max(remaining, 0),
            math.inf if cost > limit.amount else fits_in,
            full_in,
            now,
        )

    @contextmanager
    def _bounded(self) -> Iterator[asyncio.Timeout]:
        """A time-out that ends early when the others' failures have settled the matter."""
        timeout = asyncio.timeout(self._timeout)
        self._waiting.add(timeout)
        try:
            yield timeout
        finally:
            self._waiting.discard(timeout)

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
        loop = asyncio.get_running_loop()
        for timeout in self._waiting:
            # One that ran out at this very moment can't be told again.
            if not timeout.expired():
                timeout.reschedule(loop.time())
        self._probing = loop.create_task(self._probe())

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
                async with asyncio.timeout(self._timeout):
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
