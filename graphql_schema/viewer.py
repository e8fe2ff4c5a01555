"""The viewer and the budgets: their types, and the query field that returns them."""

from __future__ import annotations

from datetime import UTC, datetime

import strawberry
from strawberry import ID

import persistence.viewer
from api.charges import Kind, WindowState
from api.rate_limit.budget import viewer_payer
from graphql_schema.context import Context, Info


@strawberry.type(description="What is left of one of your budgets.")
class Budget:
    """Made from ``api.rate_limit.sliding_window.WindowState``."""

    id: ID = strawberry.field(
        description="`reads:` or `writes:` and the user's id: caches know objects by id alone."
    )
    limit: int = strawberry.field(description="How much there is, in any minute.")
    remaining: int = strawberry.field(description="How much of it is left now.")
    reset_at: datetime = strawberry.field(description="When everything is left again.")

    @classmethod
    def of(cls, user_id: str, kind: Kind, window: WindowState) -> Budget:
        """The budget as a client sees it."""
        return cls(
            id=ID(f"{kind.value}s:{user_id}"),
            limit=window.limit.amount,
            remaining=window.remaining,
            reset_at=datetime.fromtimestamp(window.now + window.seconds_until_full, UTC),
        )


@strawberry.type(description="You.")
class Viewer:
    """Resolved from ``persistence.viewer.Viewer``, whose attributes have these names."""

    @strawberry.field(description="`viewer:` and the user's id: caches know objects by id alone.")
    def id(self, parent: strawberry.Parent[persistence.viewer.Viewer]) -> ID:
        """An id that no other object of the schema has."""
        return ID(f"viewer:{parent.user_id}")

    user_id: ID = strawberry.field(description="As the auth server writes it.")
    session_expires_at: datetime = strawberry.field(description="When this session ends.")

    @strawberry.field(description="What you may still read. Shared with REST.")
    async def reads(
        self, parent: strawberry.Parent[persistence.viewer.Viewer], info: Info
    ) -> Budget:
        """Read the budget of reads without charging it."""
        return await _budget(info.context, parent, Kind.READ)

    @strawberry.field(description="What you may still write. Shared with REST.")
    async def writes(
        self, parent: strawberry.Parent[persistence.viewer.Viewer], info: Info
    ) -> Budget:
        """Read the budget of writes without charging it."""
        return await _budget(info.context, parent, Kind.WRITE)


async def _budget(context: Context, viewer: persistence.viewer.Viewer, kind: Kind) -> Budget:
    if session_check := context.db.session_check:
        # What is left is told after this request is charged, and it is not yet.
        raise session_check.fail()
    look, usage = context.budget.look, context.db.usage
    window = await context.once_a_request(kind, lambda: look(viewer_payer(viewer), kind, usage))
    return Budget.of(viewer.user_id, kind, window)


@strawberry.type
class ViewerQueries:
    """The query field of the viewer."""

    @strawberry.field(graphql_type=Viewer, description="You, as this request knows you.")
    async def viewer(self, info: Info) -> persistence.viewer.Viewer:
        """Return the viewer of this request."""
        return info.context.viewer
