"""The streams of one instance: which are open, who reads for them, and when they end.

PostgreSQL has the truth. A hint says only that a person has changed something, and may be lost: at
intervals every person's head is compared, and every session.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

from api.auth.authenticator import Authenticator
from api.errors import TooManyStreams, Unauthenticated
from api.live.errors import StreamCut
from api.live.sockets import Socket, Sockets
from api.live.stream import PAGE, Look, Stream
from persistence import feeds
from persistence.database import Database
from persistence.errors import Unavailable
from persistence.sessions.store import UnusableSessions
from persistence.sync_tokens import SyncToken
from persistence.viewer import Viewer

MAX_STREAMS: Final = 2000
"""The most streams of an instance."""

MAX_OF_A_PERSON: Final = 10
"""The most streams of a person on an instance."""

PEOPLE_AT_ONCE: Final = 500
"""The most people whose heads one statement reads."""

MAX_DATABASE_AWAY: Final = 60.0
"""Seconds without the database after which streams are cut."""

_RETRY_SECONDS: Final = 1.0

_log = logging.getLogger("twofold.live")


class Hub:
    """The open streams of an instance.

    Args:
        database: makes an access to the database.
        authenticator: finds sessions.
        check_seconds: between two comparisons of heads and sessions.

    Attributes:
        sockets: the open WebSockets, with streams or without.
    """

    def __init__(
        self, database: Callable[[], Database], authenticator: Authenticator, check_seconds: float
    ) -> None:
        self._database = database
        self._authenticator = authenticator
        self._check_seconds = check_seconds
        self.sockets = Sockets()
        self._people: dict[str, _Person] = {}
        self._count = 0
        self._checking: asyncio.Task[None] | None = None
        self._is_cut = False

    def __len__(self) -> int:
        return self._count

    async def close(self) -> None:
        """Stop checking, and cut all streams."""
        self.cut()
        if self._checking:
            self._checking.cancel()
            await asyncio.wait([self._checking])

    def hint(self, user_id: str) -> None:
        """A person has changed something, as far as is known."""
        if person := self._people.get(user_id):
            person.wake()

    def hint_all(self) -> None:
        """Hints may have been lost."""
        for person in self._people.values():
            person.wake()

    def cut(self) -> None:
        """Cut all streams, and take no more: the instance leaves."""
        self._is_cut = True
        self.sockets.cut()
        self._cut_all("the instance leaves")

    def add(self, viewer: Viewer, bearer: bytes, position: SyncToken) -> Stream:
        """Open a stream. From now on it is woken; ``remove`` has to be called at its end.

        Raises:
            TooManyStreams: the viewer has too many.
            Unavailable: the instance has too many, or leaves.
        """
        person = self._people.get(viewer.user_id)
        if self._is_cut or self._count >= MAX_STREAMS:
            raise Unavailable("live: the instance leaves, or has too many streams")
        if person and len(person.streams) >= MAX_OF_A_PERSON:
            raise TooManyStreams(f"{MAX_OF_A_PERSON} streams are open already")
        if person is None:
            person = self._people[viewer.user_id] = _Person(self._look)
        stream = Stream(viewer, bearer, position, person.read)
        person.streams.add(stream)
        self._count += 1
        self.begin_checking()
        return stream

    def begin_checking(self) -> None:
        """Compare heads and sessions from now on."""
        if self._checking is None:
            self._checking = asyncio.create_task(self._check_forever())

    def remove(self, stream: Stream) -> None:
        """Forget a stream."""
        person = self._people[stream.viewer.user_id]
        person.streams.remove(stream)
        self._count -= 1
        if not person.streams:
            del self._people[stream.viewer.user_id]

    async def _look(self, viewer: Viewer, position: SyncToken, bearers: Sequence[bytes]) -> Look:
        """What changed, and then whose session still exists.

        In this order: a session that exists after the changes were read existed when they were
        committed.
        """
        give_up_at = time.monotonic() + MAX_DATABASE_AWAY
        while True:
            db = self._database()
            try:
                changes = await feeds.changes(db, viewer, position, PAGE)
                viewers = await self._authenticator.viewers(db, bearers)
                valid = [each is not None and each.user_id == viewer.user_id for each in viewers]
                return Look(changes, dict(zip(bearers, valid, strict=True)))
            except (Unavailable, UnusableSessions) as error:
                if time.monotonic() > give_up_at or self._is_cut:
                    raise StreamCut(str(error)) from error
            await asyncio.sleep(_RETRY_SECONDS)

    async def _check_forever(self) -> None:
        failing_since: float | None = None
        while True:
            await asyncio.sleep(self._check_seconds)
            try:
                async with asyncio.timeout(self._check_seconds + MAX_DATABASE_AWAY):
                    await self._check()
                if failing_since is not None:
                    _log.info("streams are checked again")
                failing_since = None
            except Exception as error:
                expected = isinstance(error, Unavailable | UnusableSessions | TimeoutError)
                level = logging.WARNING if expected else logging.ERROR
                _log.log(level, "streams are not checked: %s", error, exc_info=not expected)
                failing_since = failing_since or time.monotonic()
                if time.monotonic() - failing_since > MAX_DATABASE_AWAY:
                    self._cut_all("the database is away")

    async def _check(self) -> None:
        people = list(self._people.items())
        for start in range(0, len(people), PEOPLE_AT_ONCE):
            await self._check_some(dict(people[start : start + PEOPLE_AT_ONCE]))
        # Those with a stream were checked with it.
        idle = [each for each in self.sockets if each.viewer and not self._has_stream(each)]
        for start in range(0, len(idle), PEOPLE_AT_ONCE):
            await self._check_idle(idle[start : start + PEOPLE_AT_ONCE])

    def _has_stream(self, socket: Socket) -> bool:
        person = self._people.get(socket.viewer.user_id) if socket.viewer else None
        return any(each.bearer == socket.bearer for each in person.streams) if person else False

    async def _check_idle(self, sockets: list[Socket]) -> None:
        bearers = [socket.bearer for socket in sockets]
        viewers = await self._authenticator.viewers(self._database(), bearers)
        for socket, viewer in zip(sockets, viewers, strict=True):
            if viewer is None or socket.viewer is None or viewer.user_id != socket.viewer.user_id:
                socket.close(4403, "The session has ended.")

    async def _check_some(self, people: dict[str, _Person]) -> None:
        db = self._database()
        heads = await feeds.heads(db, list(people))
        streams = [stream for person in people.values() for stream in person.streams]
        bearers = list({stream.bearer for stream in streams})
        viewers = dict(zip(bearers, await self._authenticator.viewers(db, bearers), strict=True))
        for stream in streams:
            viewer = viewers[stream.bearer]
            if viewer is None or viewer.user_id != stream.viewer.user_id:
                stream.end(Unauthenticated())
            elif heads.get(stream.viewer.user_id, stream.position) != stream.position:
                stream.wake()

    def _cut_all(self, reason: str) -> None:
        for person in self._people.values():
            for stream in person.streams:
                # One for each: an exception collects the frames of everybody who raises it.
                stream.end(StreamCut(reason))


class _Person:
    """The streams of one person. Those at the same position share one read."""

    def __init__(
        self, look: Callable[[Viewer, SyncToken, Sequence[bytes]], Coroutine[Any, Any, Look]]
    ) -> None:
        self.streams: set[Stream] = set()
        self._look = look
        self._reads: dict[SyncToken, asyncio.Task[Look]] = {}

    def wake(self) -> None:
        """Wake every stream."""
        # What is being read may be older than the change.
        self._reads.clear()
        for stream in self.streams:
            stream.wake()

    async def read(self, stream: Stream) -> Look:
        """What changed after the stream's position."""
        read = self._reads.get(stream.position)
        if read is None:
            read = self._start(stream)
        look = await asyncio.shield(read)
        if stream.bearer not in look.sessions:
            look = await self._look(stream.viewer, stream.position, [stream.bearer])
        return look

    def _start(self, stream: Stream) -> asyncio.Task[Look]:
        position = stream.position
        bearers = list({each.bearer for each in self.streams})
        read = asyncio.create_task(self._look(stream.viewer, position, bearers))
        self._reads[position] = read

        def forget(done: asyncio.Task[Look]) -> None:
            if self._reads.get(position) is done:
                del self._reads[position]
            if not done.cancelled():
                done.exception()  # Read here, because every stream may have ended.

        read.add_done_callback(forget)
        return read
