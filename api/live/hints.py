"""Hints between instances: who has changed something, through Redis. Any of them may be lost."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from typing import Any, Final

import hiredis

from api.rate_limit.redis_connection import RedisConnection, UnusableRedis, describe_failure
from persistence.redis_url import RedisServer

CHANNEL: Final = "twofold:changes"
"""The channel of the hints: the id of an instance, a colon, the id of a person."""

PING_SECONDS: Final = 5.0
"""Seconds between two checks that a connection still delivers."""

ALONE_AFTER_SECONDS: Final = 3 * PING_SECONDS
"""Seconds without a message of another instance after which there is none."""

TIMEOUT: Final = 2.0
"""Seconds that Redis may take to answer."""

RECONNECT_SECONDS: Final = 1.0

_log = logging.getLogger("twofold.live")

_ERRORS: Final = (OSError, TimeoutError, hiredis.HiredisError, UnusableRedis)


class RedisHints:
    """Sends the hints of one instance, and receives those of the others.

    An instance that is alone sends none: a hint costs a twentieth of a write. Each is heard of by
    its pings, the first of which it sends before it relies on hints.

    Args:
        server: the Redis.
        receive: is called with the id of a person.
        receive_all: is called when hints may have been lost.

    Attributes:
        are_lost: whether Redis does not deliver them.
    """

    def __init__(
        self,
        server: RedisServer,
        receive: Callable[[str], None],
        receive_all: Callable[[], None],
    ) -> None:
        self._server = server
        self._receive = receive
        self._receive_all = receive_all
        self._instance = secrets.token_hex(8)
        self._publisher: RedisConnection | None = None
        self._running: asyncio.Task[None] | None = None
        self._others_until = 0.0
        self.are_lost = False

    @property
    def is_alone(self) -> bool:
        """Whether no other instance was heard of lately."""
        return time.monotonic() > self._others_until

    def open(self) -> None:
        """Start; connects in the background."""
        self._running = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stop."""
        if self._running:
            self._running.cancel()
            await asyncio.wait([self._running])

    def send(self, user_id: str) -> None:
        """Tell the other instances that a person has changed something. Waits for nothing."""
        if self.is_alone or self._publisher is None or self._publisher.is_closed():
            return
        with suppress(ConnectionError):
            sent = self._publisher.call("PUBLISH", CHANNEL, f"{self._instance}:{user_id}")
            sent.add_done_callback(_ignore)

    async def _run(self) -> None:
        while True:
            try:
                await self._serve()
            except Exception as error:
                if not self.are_lost:
                    expected = isinstance(error, _ERRORS)
                    _log.log(
                        logging.WARNING if expected else logging.ERROR,
                        "hints of other instances are lost, and streams late by some seconds: %s",
                        describe_failure(error, self._server, TIMEOUT),
                        exc_info=not expected,
                    )
                self.are_lost = True
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _serve(self) -> None:
        async with AsyncExitStack() as stack:
            async with asyncio.timeout(TIMEOUT):
                publisher = await RedisConnection.open(self._server, TIMEOUT)
                stack.callback(publisher.abort)
                subscriber = await _Subscriber.open(self._server, TIMEOUT)
                stack.callback(subscriber.abort)
            assert isinstance(subscriber, _Subscriber)
            subscriber.listen(self._on_message)
            self._publisher = publisher
            is_new = True
            while True:
                # Through Redis and back: the response to a ping does not show a subscription.
                number = subscriber.echoes
                receivers = await publisher.call("PUBLISH", CHANNEL, f"{self._instance}:")
                if not isinstance(receivers, int):
                    raise UnusableRedis("it does not say how many instances received a hint")
                if receivers > 1:
                    self._note_others()
                await subscriber.next_after(number, TIMEOUT)
                if is_new:
                    # What others published before was lost.
                    self._receive_all()
                if self.are_lost:
                    _log.info("hints of other instances arrive again")
                self.are_lost = is_new = False
                await asyncio.sleep(PING_SECONDS)

    def _on_message(self, text: str) -> bool:
        """Take a message. Returns whether it is one of our own."""
        instance, _, user_id = text.partition(":")
        if instance == self._instance:
            return True
        self._note_others()
        self._receive(user_id)
        return False

    def _note_others(self) -> None:
        self._others_until = time.monotonic() + ALONE_AFTER_SECONDS


def _ignore(sent: asyncio.Future[Any]) -> None:
    if not sent.cancelled():
        sent.exception()


class _Subscriber(RedisConnection):
    """A connection that receives messages instead of replies, once it listens.

    Attributes:
        echoes: how many messages of this instance came back.
    """

    def __init__(self, timeout: float) -> None:
        super().__init__(timeout)
        self.echoes = 0
        self._arrival = asyncio.Event()
        self._deliver: Callable[[str], bool] | None = None
        self._failure: Exception | None = None

    def listen(self, deliver: Callable[[str], bool]) -> None:
        """Subscribe; from then on only messages arrive.

        Args:
            deliver: takes a message, and returns whether it is one of this instance.
        """
        assert self._transport
        self._deliver = deliver
        self._transport.write(b"SUBSCRIBE %b\r\n" % CHANNEL.encode())

    async def next_after(self, number: int, seconds: float) -> None:
        """Wait until there are more echoes than so many.

        Raises:
            TimeoutError: there was none.
            hiredis.ReplyError: Redis does not let this connection subscribe.
            Exception: whatever ended the connection.
        """
        async with asyncio.timeout(seconds):
            while self.echoes <= number:
                if self._failure:
                    raise self._failure
                self._arrival.clear()
                await self._arrival.wait()

    def _answer(self, reply: Any) -> None:
        if self._deliver is None:
            super()._answer(reply)
            return
        match reply:
            case [b"message", _, bytes(text)]:
                if self._deliver(text.decode("utf-8", "replace")):
                    self.echoes += 1
                    self._arrival.set()
            case hiredis.ReplyError() as error:
                self._note_failure(error)

    def _close(self, error: Exception | None) -> None:
        super()._close(error)
        self._note_failure(error or ConnectionResetError("Redis closed the connection"))

    def _note_failure(self, error: Exception) -> None:
        # The first one is the reason of those that follow.
        self._failure = self._failure or error
        self._arrival.set()
