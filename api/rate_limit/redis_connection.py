"""One connection to Redis that many callers share at the same time."""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from dataclasses import dataclass
from typing import Any, Final, cast

import hiredis

from api.rate_limit.timeout import TICKS
from persistence.redis_url import RedisServer

MAX_UNANSWERED: Final = 10_000
"""Commands that may wait for their replies; further ones fail at once. About 3 MB of them."""

MAX_REPLY: Final = 64 * 1024
"""The most bytes of one reply. The longest that the budget asks for has less than 200."""

_LONG_ARRAY: Final = re.compile(rb"\n[*%~>|][0-9]{5,}")
"""The head of a reply of 10,000 parts or more. hiredis makes room for all of them at once: 13 bytes
can take the event loop some seconds."""


class UnusableRedis(Exception):
    """The server can never keep the budgets; the message is one sentence that says why."""


class RedisConnection(asyncio.Protocol):
    """A connection on which any number of commands are under way.

    The commands of one turn of the event loop leave in one write. Measured beside redis-py's
    client, which gives each command a connection of its own: 70 µs less CPU for each.

    Commands time out in the order in which they were sent, so one timer is enough. It does not
    count the time in which the event loop is blocked: after a stall the reply may have arrived long
    ago, and only needs the loop's next turn to be read.

    Args:
        timeout: seconds after which a command without a reply fails.
    """

    def __init__(self, timeout: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._timeout = timeout
        self._tick = timeout / TICKS
        self._reader = hiredis.Reader()
        self._unread = 0
        # The end of what was received, where the head of a reply may begin.
        self._tail = b"\n"
        self._unsent: list[bytes] = []
        self._unanswered: deque[_Command] = deque()
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        # The seconds in which the loop was not blocked, as long as commands were waiting.
        self._elapsed = 0.0
        self._last_tick = 0.0

    @classmethod
    async def open(
        cls,
        server: RedisServer,
        timeout: float,  # noqa: ASYNC109  # for the commands
    ) -> RedisConnection:
        """Connect and sign in.

        Raises:
            OSError: the server cannot be reached, or closed the connection.
            TimeoutError: it did not answer. The time until the connection exists is not bounded.
            hiredis.HiredisError: it refuses us, or is no Redis.
            UnusableRedis: it is a node of a cluster or a Sentinel, or lacks the database.
        """
        loop = asyncio.get_running_loop()

        def protocol() -> RedisConnection:
            return cls(timeout)

        if server.path is not None:
            _, connection = await loop.create_unix_connection(protocol, server.path)
        else:
            _, connection = await loop.create_connection(
                protocol, server.host, server.port, ssl=server.tls
            )
        try:
            await connection._sign_in(server)
            if server.database:
                await connection._select(server)
        except BaseException:
            connection.abort()
            raise
        return connection

    async def _sign_in(self, server: RedisServer) -> None:
        user = server.username or "default"
        credentials = () if server.password is None else ("AUTH", user, server.password)
        try:
            # Any user may send it, and it says what kind of server this is.
            reply = await self.call("HELLO", 2, *credentials)
        except hiredis.ReplyError as error:
            if "unknown command" not in str(error).lower():
                raise
            # Before Redis 6 there is neither this command nor a user's name.
            if server.password is not None:
                await self.call("AUTH", server.password)
            return
        server_info: dict[Any, Any] = {}
        if isinstance(reply, list):
            server_info = dict(zip(reply[::2], reply[1::2], strict=False))
        if reason := _UNUSABLE.get(server_info.get(b"mode", b"")):
            raise UnusableRedis(f"REDIS_URL: {server.address} {reason}")

    async def _select(self, server: RedisServer) -> None:
        try:
            await self.call("SELECT", server.database)
        except hiredis.ReplyError as error:
            if "out of range" not in str(error):
                raise
            raise UnusableRedis(
                f"REDIS_URL: {server.address} has no database {server.database}."
            ) from None

    def is_closed(self) -> bool:
        """Whether no command can be sent any more."""
        return self._transport is None

    def call(self, *words: str | int | bytes) -> asyncio.Future[Any]:
        """Send a command; the future gets its reply.

        Raises:
            ConnectionError: the connection is closed, or too many commands wait for replies. The
                future raises it too, if the connection is lost.
            TimeoutError: (from the future) there was no reply in time. It may still be executed.
            hiredis.ReplyError: (from the future) the reply is an error.
        """
        if self._transport is None:
            raise ConnectionResetError("the connection is closed")
        if len(self._unanswered) >= MAX_UNANSWERED:
            raise ConnectionError(f"{MAX_UNANSWERED} commands wait for replies already")
        if not self._unsent:
            self._loop.call_soon(self._send)
        self._unsent.append(hiredis.pack_command(words))  # type: ignore[arg-type]  # a wrong stub
        future = self._loop.create_future()
        self._unanswered.append(_Command(future, self._elapsed))
        if self._timer is None:
            self._last_tick = time.monotonic()
            self._timer = self._loop.call_later(self._tick, self._count)
        return future

    def abort(self) -> None:
        """Close the connection now; commands without a reply fail."""
        if self._transport is not None:
            self._transport.abort()
            self._close(None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        """Called by the event loop."""
        self._close(error)

    def data_received(self, data: bytes) -> None:
        """Called by the event loop: give each reply to the command that is its turn."""
        self._unread += len(data)
        try:
            recent = self._tail + data
            if _LONG_ARRAY.search(recent):
                raise hiredis.ProtocolError("a reply of 10,000 parts or more")
            self._tail = recent[-8:]
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not False:
                self._unread = 0
                self._answer(reply)
        except Exception as error:  # hiredis also raises TypeError and MemoryError.
            self._fail(error)
        if self._unread > MAX_REPLY:
            self._fail(hiredis.ProtocolError(f"a reply of more than {MAX_REPLY} bytes"))

    def _answer(self, reply: Any) -> None:
        command = self._unanswered.popleft()
        # A caller that gave up, or was cancelled, has left its place in the order.
        if command.future.done():
            return
        if isinstance(reply, hiredis.ReplyError):
            command.future.set_exception(reply)
        else:
            command.future.set_result(reply)

    def _send(self) -> None:
        if self._transport is not None:
            self._transport.write(b"".join(self._unsent))
        self._unsent.clear()

    def _count(self) -> None:
        now = time.monotonic()
        self._elapsed += min(now - self._last_tick, 2 * self._tick)
        self._last_tick = now
        is_waiting = False
        for command in self._unanswered:
            if command.future.done():
                continue
            if self._elapsed - command.sent_at < self._timeout:
                is_waiting = True
                break
            command.future.set_exception(TimeoutError())
        # With nothing that waits, time stands still.
        self._timer = self._loop.call_later(self._tick, self._count) if is_waiting else None

    def _fail(self, error: Exception) -> None:
        if self._transport is not None:
            self._transport.abort()
        self._close(error)

    def _close(self, error: Exception | None) -> None:
        self._transport = None
        if self._timer:
            self._timer.cancel()
            self._timer = None
        while self._unanswered:
            command = self._unanswered.popleft()
            if not command.future.done():
                command.future.set_exception(
                    error or ConnectionResetError("Redis closed the connection")
                )


@dataclass(slots=True)
class _Command:
    """A command without a reply; ``sent_at`` by the connection's own clock."""

    future: asyncio.Future[Any]
    sent_at: float


def describe_failure(error: Exception, server: RedisServer, timeout: float) -> str:
    """What failed, and at which server: one line, without credentials that Redis repeats.

    Args:
        timeout: seconds that a command may take.
    """
    text = str(error).partition("\n")[0].partition("with args")[0]
    for secret in filter(None, (server.password, server.username)):
        text = text.replace(secret, "********")
    text = text.rstrip(" ,.") or f"nothing within {timeout:g} s"
    reason = f"{type(error).__name__}: {text}"[:200]
    return reason if server.address in reason else f"{reason}, at {server.address}"


_UNUSABLE: Final = {
    b"cluster": "is a node of a cluster, which keeps only a part of the keys; name a Redis that "
    "is not one.",
    b"sentinel": "is a Sentinel, which keeps no keys; name the Redis that it watches.",
}
"""Why a server in this mode cannot be used."""
