"""The tokens that had a session at their last look-up, as hashes."""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict
from typing import Final

from persistence.viewer import Viewer

MAX_VALID_TOKENS: Final = 10_000
"""Tokens that are remembered as valid: a hash of 32 bytes and a viewer each, about 5 MB in all."""


class ValidTokens:
    """Hashes of the tokens that had a session at their last look-up, under a key of this process.

    They only decide how a token is looked up: whether it has to wait, and whether together with a
    read. Every token is looked up again.
    """

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(key=secrets.token_bytes(32), digest_size=32)
        self._viewers: OrderedDict[bytes, Viewer] = OrderedDict()

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._viewers

    def viewer(self, digest: bytes) -> Viewer | None:
        """Whose session the token had; ``None`` if it had none."""
        return self._viewers.get(digest)

    def digest(self, token: bytes) -> bytes:
        """The hash of a token, 32 bytes."""
        digest = self._hash.copy()
        digest.update(token)
        return digest.digest()

    def add(self, digest: bytes, viewer: Viewer) -> None:
        """Add a token. Beyond ``MAX_VALID_TOKENS`` the least recently used one is removed."""
        self._viewers[digest] = viewer
        self._viewers.move_to_end(digest)
        if len(self._viewers) > MAX_VALID_TOKENS:
            self._viewers.popitem(last=False)

    def remove(self, digest: bytes) -> None:
        """Remove a token, if it is there."""
        self._viewers.pop(digest, None)
