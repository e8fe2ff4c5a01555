"""How a stream ends."""

from __future__ import annotations


class StreamCut(Exception):
    """The connection of a stream is closed in the middle, so that its client connects again.

    A stream that ends cleanly is over for many clients.
    """
