"""Readiness: whether this instance can serve. Checked at startup and for load balancers."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final

from api.errors import NotReady
from api.state import ProbeResult, State
from persistence.errors import Unavailable
from persistence.schema_check import UnusableTables, find_schema_problem
from persistence.sessions.store import UnusableSessions

REUSE_SECONDS: Final = 1.0
"""Seconds for which the result of a probe is reused. Anybody may call it, without a budget."""

_log = logging.getLogger("twofold")


async def require_ready(state: State) -> None:
    """Check everything that serving needs, at most once in ``REUSE_SECONDS``.

    A caller that arrives while a probe runs waits for its result. A change of the failing part is
    logged.

    Raises:
        NotReady: the instance drains, or the database, the auth server's sessions or this build's
            schema is missing; the error names the part.
    """
    _require_serving(state)
    probe = await _latest_probe(state)
    _require_serving(state)  # Draining may have started meanwhile.
    if probe.failing:
        raise NotReady(probe.failing, probe.reason) from probe.cause


def _require_serving(state: State) -> None:
    if state.draining:
        raise NotReady("instance", "it is draining")


async def _latest_probe(state: State) -> ProbeResult:
    task = state.probing
    if task is None or (task.done() and _is_outdated(task)):
        task = state.probing = asyncio.create_task(_probe(state))
    # Shielded, because a caller that is cancelled must not cancel it for the others.
    return await asyncio.shield(task)


def _is_outdated(task: asyncio.Task[ProbeResult]) -> bool:
    if task.cancelled() or task.exception():
        return True
    return time.monotonic() - task.result().at >= REUSE_SECONDS


async def _probe(state: State) -> ProbeResult:
    # Redis changes nothing in whether the instance can serve; the response says how it is.
    result, _ = await asyncio.gather(_probe_database(state), state.budget.check())
    return result


async def _probe_database(state: State) -> ProbeResult:
    db = state.probe()
    try:
        session_table = await state.authenticator.check_sessions(db)
        problem = await find_schema_problem(db, session_table)
    except Unavailable as error:
        _log_change(state, "database", error.reason)
        return _failed("database", "it does not answer", error)
    except UnusableSessions as error:
        _log_change(state, "sessions", f"sessions: {error}")
        # Anybody can read this, so it does not say how the auth server stores its sessions.
        return _failed("sessions", "they cannot be read; the log says why", error)
    except UnusableTables as error:
        _log_change(state, error.part, f"{error.part}: {error}")
        return _failed(error.part, "they cannot be used; the log says why", error)
    if problem:
        _log_change(state, problem.part, f"{problem.part}: {problem.reason}")
        return _failed(problem.part, problem.reason)
    _log_change(state, "", "")
    return ProbeResult(time.monotonic())


def _failed(part: str, reason: str, cause: Exception | None = None) -> ProbeResult:
    return ProbeResult(time.monotonic(), part, reason, cause)


def _log_change(state: State, failing: str, reason: str) -> None:
    if failing != state.failing:
        state.failing = failing
        if failing:
            _log.warning("not ready: %s", reason)
        else:
            _log.info("ready again")
