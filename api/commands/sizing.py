"""The connections that instances open, beside what the database allows: for `twofold check`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from api.commands.errors import CommandError
from api.commands.migrate import DATABASE_ERRORS
from api.settings import Settings
from persistence.capacity import Capacity, read_capacity


def sizing(settings: Settings, instances: int | None) -> Iterator[str]:
    """Sentences about connections, a warning last if there can be too many.

    Args:
        instances: how many run at the same time; the database is asked what it allows. ``None``:
            no connection is tried.

    Raises:
        CommandError: the database did not answer.
    """
    pool, workers = settings.pool, settings.web_concurrency
    of_instance = workers * (pool.size + pool.max_overflow)
    yield (
        f"An instance opens at most {of_instance} connections to PostgreSQL:"
        f" {workers} x ({pool.size} + {pool.max_overflow}), workers x (pool + overflow)."
    )
    if instances is None:
        return
    capacity = _read(settings)
    needed, deploying = instances * of_instance, (instances + 1) * of_instance
    yield (
        f"{instances} x {of_instance} = {needed}; {deploying} during a deploy, when one more"
        f" instance runs. The database allows this role {capacity.allowed}"
        f" (max_connections is {capacity.maximum}, of which {capacity.reserved} are reserved)."
        f" Other roles have {capacity.others} open now."
    )
    if capacity.is_pooled:
        yield (
            "DATABASE_URL leads through a pooler: its own limits count, in PgBouncer"
            f" max_client_conn for the {deploying}, and default_pool_size for the database's."
        )
    elif deploying > capacity.left:
        yield (
            f"Warning: {deploying} connections are more than the {capacity.left} that are left."
            " Lower SQLALCHEMY_POOL_SIZE, SQLALCHEMY_MAX_OVERFLOW or WEB_CONCURRENCY, raise the"
            " database's limit, or use a pooler."
        )


def _read(settings: Settings) -> Capacity:
    assert settings.database_url is not None
    try:
        return asyncio.run(read_capacity(settings.database_url.get_secret_value()))
    except (*DATABASE_ERRORS, TimeoutError) as error:
        reason = str(error) or type(error).__name__
        raise CommandError(f"The database could not be asked: {reason}") from None
