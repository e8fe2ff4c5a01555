"""Where sessions are read from, and the error if they cannot be read there."""

from __future__ import annotations

from enum import StrEnum


class SessionStore(StrEnum):
    """The layout in which the auth server keeps its sessions."""

    HASHED = "hashed"
    BETTER_AUTH = "better-auth"


class UnusableSessions(Exception):
    """The sessions cannot be read as configured; the message says what to change."""
