"""Whether this instance can serve: asked at its start, and by load balancers ever after."""

from __future__ import annotations

import logging
from typing import Final

from api.errors import NotReady
from api.state import State
from persistence.errors import Unavailable
from persistence.migrations import is_schema_current
from persistence.sessions.layouts import UnusableSessions

_log = logging.getLogger("twofold")


async def require_ready(state: State) -> None:
    """Look at all that serving needs. The log is told when what fails changes.

    Raises:
        NotReady: the instance drains, or the database, the auth server's sessions or this build's
            schema is missing; it names the part.
    """
    if state.draining:
        raise NotReady("instance", "it is draining")
    db = state.probe()
    try:
        await state.authenticator.find_sessions(db)
        is_current = await is_schema_current(db)
    except Unavailable as error:
        _tell(state, "database", error.reason)
        raise NotReady("database", "it does not answer") from error
    except UnusableSessions as error:
        _tell(state, "sessions", f"sessions: {error}")
        # Strangers may ask, and are not told how the auth server keeps its sessions.
        raise NotReady("sessions", "they cannot be read; the log says why") from error
    if not is_current:
        _tell(state, "schema", f"schema: {_BEHIND}")
        raise NotReady("schema", _BEHIND)
    _tell(state, "", "")


_BEHIND: Final = "it is behind this build: twofold migrate"


def _tell(state: State, failing: str, why: str) -> None:
    if failing != state.failing:
        state.failing = failing
        if failing:
            _log.warning("not ready: %s", why)
        else:
            _log.info("ready again")
