"""The open WebSockets of one instance: how many there may be, and who they belong to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final, Protocol

from api.errors import TooManyStreams
from persistence.errors import Unavailable
from persistence.viewer import Viewer

MAX_SOCKETS: Final = 2000
"""The most WebSockets of an instance."""

MAX_OF_A_PERSON: Final = 10
"""The most WebSockets of a person on an instance."""

MAX_OF_AN_ADDRESS: Final = 100
"""The most WebSockets of a client's address that have not said yet whose they are."""


class Socket(Protocol):
    """What is known of an open WebSocket.

    Attributes:
        address: of the client.
        bearer: the token that it was opened with.
        viewer: whose it is; ``None`` until that is known.
    """

    address: str
    bearer: bytes
    viewer: Viewer | None

    def close(self, code: int, reason: str) -> None:
        """Close it soon. Further calls do nothing."""


class Sockets:
    """The open WebSockets of an instance."""

    def __init__(self) -> None:
        self._sockets: set[Socket] = set()
        self._strangers: Counter[str] = Counter()
        self._people: Counter[str] = Counter()
        self._is_cut = False

    def __len__(self) -> int:
        return len(self._sockets)

    def __iter__(self) -> Iterator[Socket]:
        return iter(list(self._sockets))

    def add(self, socket: Socket) -> None:
        """Open one. ``remove`` has to be called at its end.

        Raises:
            Unavailable: there are too many, or the instance leaves.
        """
        if self._is_cut or len(self._sockets) >= MAX_SOCKETS:
            raise Unavailable("live: the instance leaves, or has too many sockets")
        if self._strangers[socket.address] >= MAX_OF_AN_ADDRESS:
            raise Unavailable("live: too many sockets of one address wait to be initialised")
        self._sockets.add(socket)
        self._strangers[socket.address] += 1

    def identify(self, socket: Socket, viewer: Viewer) -> None:
        """Note whose it is.

        Raises:
            TooManyStreams: the viewer has too many.
        """
        if self._people[viewer.user_id] >= MAX_OF_A_PERSON:
            raise TooManyStreams(f"{MAX_OF_A_PERSON} sockets are open already")
        _count_down(self._strangers, socket.address)
        self._people[viewer.user_id] += 1
        socket.viewer = viewer

    def remove(self, socket: Socket) -> None:
        """Forget one."""
        self._sockets.remove(socket)
        if socket.viewer is None:
            _count_down(self._strangers, socket.address)
        else:
            _count_down(self._people, socket.viewer.user_id)

    def cut(self) -> None:
        """Close all, and take no more: the instance leaves."""
        self._is_cut = True
        for socket in self:
            socket.close(1012, "The instance stops. Connect again.")


def _count_down(counter: Counter[str], key: str) -> None:
    counter[key] -= 1
    if counter[key] <= 0:
        del counter[key]
