"""The settings of an app in production, and the type of its client."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx

FRONTEND = "https://app.example.com"

Client = AbstractAsyncContextManager[httpx.AsyncClient]


def production(**changes: Any) -> dict[str, Any]:
    """The settings of an app in production."""
    redis_url = "redis://127.0.0.1:1"
    return {
        "environment": "production",
        "cors_origins": [FRONTEND],
        "redis_url": redis_url,
    } | changes
