"""What resolvers are given: who asks, the way to the database, and the budgets."""

from __future__ import annotations

from dataclasses import dataclass

import strawberry

from api.rate_limit.budget import Budget
from persistence.database import Database
from persistence.viewer import Viewer


@dataclass(frozen=True, slots=True)
class Context:
    """One request's. Sibling fields run concurrently; each statement has its own connection.

    ``max_page`` is the most tasks that a page may have here.
    """

    viewer: Viewer
    db: Database
    budget: Budget
    max_page: int


Info = strawberry.Info[Context, None]
