"""Health checks: whether the process runs, and whether it can serve requests."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from api.errors import NotReady
from api.http.json import encode_json, now_to_the_second
from api.server.readiness import require_ready
from api.state import state_of
from api.telemetry.build import Build
from rest.problem_documents import COMMON_ERRORS, error_responses
from rest.route import PublicRoute

router: Final = APIRouter(
    route_class=PublicRoute,
    tags=["health"],
    responses=COMMON_ERRORS,
    generate_unique_id_function=lambda route: route.name,
)


class HealthDocument(BaseModel):
    """The process runs."""

    model_config = ConfigDict(title="Health", extra="forbid")

    status: Literal["ok"]
    timestamp: datetime
    version: Annotated[str, Field(description="Of the build.")]
    commit: Annotated[str, Field(description="The build's Git commit; `unknown` if nothing says.")]


class ReadinessDocument(BaseModel):
    """The instance can serve: each part, and how it is."""

    model_config = ConfigDict(title="Readiness", extra="forbid")

    status: Literal["ok"]
    timestamp: datetime
    database: Literal["ok"]
    redis: Annotated[
        Literal["ok", "degraded"],
        Field(
            default_factory=str,
            description="Where there is one. Degraded: each instance counts by itself, or streams"
            " get the changes of other instances late.",
        ),
    ]


@router.get("/health", response_model=HealthDocument, response_description="The process runs.")
async def health(request: Request) -> Response:
    """Say that the process runs, and which build. Touches nothing."""
    build: Build = request.app.state.build
    return _ok(version=build.version, commit=build.commit)


@router.get(
    "/health/ready",
    response_model=ReadinessDocument,
    response_description="The instance can serve.",
    responses=error_responses(NotReady),
)
async def ready(request: Request) -> Response:
    """Say whether this instance can serve.

    It cannot while it drains, nor without the database, this build's schema or the auth
    server's sessions. The response names the part that fails.
    """
    state = state_of(request.scope)
    await require_ready(state)
    return _ok(database="ok", **({"redis": state.redis} if state.redis else {}))


def _ok(**parts: str) -> Response:
    body = encode_json({"status": "ok", "timestamp": now_to_the_second(), **parts})
    return Response(body, media_type="application/json")
