"""Bearer tokens: their two forms, their hash, and better-auth's signature. No I/O."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import unquote


class PresentedToken(NamedTuple):
    """A bearer token in its parts.

    Attributes:
        raw: the session's token.
        signature: 44 characters of base64, or empty when the client sent no signature.
    """

    raw: bytes
    signature: bytes


def parse_token(token: bytes) -> PresentedToken:
    """Separate better-auth's signed form ``token.signature`` into its parts.

    A suffix after the last dot is a signature if it is, percent-decoded, 44 characters of padded
    base64. Otherwise the whole string is the token. Never ``unquote_plus``: ``+`` is base64.
    """
    head, dot, tail = token.rpartition(b".")
    if not (dot and head):
        return PresentedToken(token, b"")
    signature = _percent_decode(tail)
    if len(signature) != _SIGNATURE_LENGTH or not signature.endswith(b"="):
        return PresentedToken(token, b"")
    try:
        base64.b64decode(signature, validate=True)
    except binascii.Error:
        return PresentedToken(token, b"")
    return PresentedToken(_percent_decode(head), signature)


_SIGNATURE_LENGTH: Final = 44  # 32 bytes of SHA-256 in base64, padded


def _percent_decode(text: bytes) -> bytes:
    if b"%" not in text:
        return text
    return unquote(text.decode("latin-1"), "latin-1").encode("latin-1")


def is_signature_right(token: PresentedToken, secrets: Sequence[bytes]) -> bool:
    """Whether the signature was made with one of the secrets.

    True if the token has no signature, or if there are no secrets to check it with.
    """
    if not token.signature or not secrets:
        return True
    # Every secret is tried, so that the time does not show which one was right.
    checks = [hmac.compare_digest(sign(secret, token.raw), token.signature) for secret in secrets]
    return any(checks)


def sign(secret: bytes, token: bytes) -> bytes:
    """better-auth's signature of a token: padded standard base64 of HMAC-SHA256."""
    return base64.b64encode(hmac.new(secret, token, hashlib.sha256).digest())


def hash_token(secret: bytes, token: bytes) -> str:
    """The auth server's hash of a token: HMAC-SHA256 as 64 hex characters."""
    keyed = _keyed(secret).copy()
    keyed.update(token)
    return keyed.hexdigest()


@lru_cache(maxsize=8)
def _keyed(secret: bytes) -> hmac.HMAC:
    # Half of what a hash costs is the key's part.
    return hmac.new(secret, digestmod=hashlib.sha256)
