"""Whether this instance can serve: asked at its start, and by load balancers ever after."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final

from api.errors import NotReady
from api.state import Probed, State
from persistence.errors import Unavailable
from persistence.migrations import is_schema_current
from persistence.sessions.layouts import UnusableSessions

REUSE_SECONDS: Final = 1.0
"""For how long the result of a probe is used again. Anybody may ask, without a budget."""

_log = logging.getLogger("twofold")


async def require_ready(state: State) -> None:
    """Look at all that serving needs, at most once in ``REUSE_SECONDS``, however many ask.

    Whoever asks while a probe runs waits for its result. The log is told when what fails changes.

    Raises:
        NotReady: the instance drains, or the database, the auth server's sessions or this build's
            schema is missing; it names the part.
    """
    _require_serving(state)
    probed = await _latest_probe(state)
    _require_serving(state)  # It may have begun to drain meanwhile.
    if probed.failing:
        raise NotReady(probed.failing, probed.reason) from probed.cause


def _require_serving(state: State) -> None:
    if state.draining:
        raise NotReady("instance", "it is draining")


async def _latest_probe(state: State) -> Probed:
    task = state.probing
    if task is None or (task.done() and _is_outdated(task)):
        task = state.probing = asyncio.create_task(_probe(state))
    # One who gives up does not cancel it for the others.
    return await asyncio.shield(task)


def _is_outdated(task: asyncio.Task[Probed]) -> bool:
    if task.cancelled() or task.exception():
        return True
    return time.monotonic() - task.result().at >= REUSE_SECONDS


async def _probe(state: State) -> Probed:
    db = state.probe()
    try:
        await state.authenticator.find_sessions(db)
        is_current = await is_schema_current(db)
    except Unavailable as error:
        _tell(state, "database", error.reason)
        return _failed("database", "it does not answer", error)
    except UnusableSessions as error:
        _tell(state, "sessions", f"sessions: {error}")
        # Strangers may ask, and are not told how the auth server keeps its sessions.
        return _failed("sessions", "they cannot be read; the log says why", error)
    if not is_current:
        _tell(state, "schema", f"schema: {_BEHIND}")
        return _failed("schema", _BEHIND)
    _tell(state, "", "")
    return Probed(time.monotonic())


def _failed(part: str, reason: str, cause: Exception | None = None) -> Probed:
    return Probed(time.monotonic(), part, reason, cause)


_BEHIND: Final = "it is behind this build: twofold migrate"


def _tell(state: State, failing: str, why: str) -> None:
    if failing != state.failing:
        state.failing = failing
        if failing:
            _log.warning("not ready: %s", why)
        else:
            _log.info("ready again")
