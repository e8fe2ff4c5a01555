"""Health, for the machines that watch: does the process run, and can it serve."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.errors import NotReady
from api.http.body import encode_json, now_to_the_second
from api.server.readiness import require_ready
from api.state import state_of
from rest.errors import EVERY_PATH, problems
from rest.task_documents import HealthDocument, ReadinessDocument

router: Final = APIRouter(
    tags=["health"],
    responses=EVERY_PATH,
    generate_unique_id_function=lambda route: route.name,
)


@router.get("/health", response_model=HealthDocument)
async def health() -> Response:
    """Say that the process runs. Touches nothing."""
    return _ok()


@router.get("/health/ready", response_model=ReadinessDocument, responses=problems(NotReady))
async def ready(request: Request) -> Response:
    """Say whether this instance can serve.

    It cannot while it drains, nor without the database, this build's schema or the auth
    server's sessions. The answer names the part that fails.
    """
    state = state_of(request.scope)
    await require_ready(state)
    return _ok(database="ok", **({"redis": state.budget.redis} if state.budget.redis else {}))


def _ok(**parts: str) -> Response:
    body = encode_json({"status": "ok", "timestamp": now_to_the_second(), **parts})
    return Response(body, media_type="application/json")
