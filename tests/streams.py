"""Request bodies that arrive in chunks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator


class Stream:
    """A body of white space in chunks of 1 KiB, without a ``Content-Length``.

    Args:
        chunks: their number.
        seconds: the pause before each chunk.

    Attributes:
        read: the number of chunks that were read.
    """

    def __init__(self, chunks: int, seconds: float = 0.0) -> None:
        self.read = 0
        self._chunks = chunks
        self._seconds = seconds

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The chunks."""
        for _ in range(self._chunks):
            await asyncio.sleep(self._seconds)
            self.read += 1
            yield b" " * 1024
