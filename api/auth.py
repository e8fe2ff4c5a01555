"""From a request's bearer token to the viewer. Knows headers; the look-up is persistence's."""

from __future__ import annotations

from typing import Final

from starlette.types import Scope

from api.errors import Unauthenticated
from api.http.body import header_values
from api.settings import Settings
from persistence.database import Database
from persistence.sessions.cache import SessionCache
from persistence.sessions.layouts import SessionLookup, find_session_lookup
from persistence.viewer import Viewer

MAX_TOKEN: Final = 4096
"""The longest bearer token that is looked up, in bytes; better-auth's have 32 or 80."""


class Authenticator:
    """Tells who is asking, by the auth server's sessions in whichever layout it keeps them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._sessions: SessionLookup | None = None

    async def viewer(self, scope: Scope, db: Database) -> Viewer:
        """The viewer of a request. One SELECT, or none where sessions are remembered.

        Raises:
            Unauthenticated: there is no token, or no session with it counts.
            Unavailable: the database could not be asked.
            UnusableSessions: the layout is still to be found, and cannot be.
        """
        token = bearer_token(scope)
        sessions = self._sessions or await self.find_sessions(db)
        session = await sessions.find(db, token)
        if session is None:
            raise Unauthenticated
        return session.viewer

    async def find_sessions(self, db: Database) -> SessionLookup:
        """Look at the auth server's table, unless that was done before.

        Raises:
            UnusableSessions: the table is not as configured.
            Unavailable: the database could not be asked; the next call tries again.
        """
        # No lock: requests that waited for one another's look would wait beyond their deadlines.
        if self._sessions is None:
            secret = self._settings.session_hash_secret
            sessions = await find_session_lookup(
                db,
                self._settings.session_store,
                table=self._settings.session_table,
                hash_secret=secret.get_secret_value().encode() if secret else b"",
                signing_secrets=self._settings.signing_secrets,
            )
            seconds = self._settings.session_cache_seconds
            self._sessions = SessionCache(sessions, seconds) if seconds else sessions
        return self._sessions


def bearer_token(scope: Scope) -> bytes:
    """The token of the one ``Authorization: Bearer`` header (RFC 6750, 2.1), as it was sent.

    Raises:
        Unauthenticated: there is none, or more than one, or it is no token.
    """
    values = header_values(scope, b"authorization")
    if len(values) != 1:
        raise Unauthenticated
    scheme, _, token = values[0].strip().partition(b" ")
    token = token.strip()
    if scheme.lower() != b"bearer" or not 1 <= len(token) <= MAX_TOKEN or b" " in token:
        raise Unauthenticated
    return token
