"""The end of a session in any time zone and type of column."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg
import pytest

from persistence.embedded.postgres import Postgres
from tests.better_auth.deployments import LAYOUTS, STOCK, deployed, service_on
from tests.conftest import run_sql

pytestmark = [pytest.mark.node, pytest.mark.usefixtures("node")]


async def sql_value(url: str, query: str, *arguments: Any) -> Any:
    """One value, read behind everyone's back."""
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(query, *arguments)
    finally:
        await connection.close()


SOMEWHERE: Final = ("Asia/Tokyo", "America/New_York")
MINUTE: Final = timedelta(minutes=1)


@pytest.mark.parametrize("node_timezone", SOMEWHERE)
@pytest.mark.parametrize("timezone", SOMEWHERE)
async def test_naive_timestamps_of_drizzle_are_utc_in_any_time_zone(
    postgres: Postgres, timezone: str, node_timezone: str
) -> None:
    layout = LAYOUTS["drizzle"]
    async with deployed(
        postgres, layout, timezone=timezone, node_timezone=node_timezone
    ) as deployment:
        ada = await deployment.auth.sign_up("ada")
        url = deployment.service.url
        ends = await sql_value(url, "SELECT expires_at FROM sessions")
        move_end = "UPDATE sessions SET expires_at = (now() AT TIME ZONE 'UTC') + interval '{}'"

        assert await sql_value(url, "SHOW timezone") == timezone
        assert abs(ends.replace(tzinfo=UTC) - (datetime.now(UTC) + timedelta(days=7))) < MINUTE
        await deployment.service.accepts(ada, ada.token)

        await run_sql(url, move_end.format("1 minute"))
        await deployment.service.accepts(ada, ada.token)

        await run_sql(url, move_end.format("-1 second"))
        await deployment.service.refuses(ada.token)


async def test_naive_timestamps_of_a_stock_server_are_utc_where_nodes_time_zone_is_utc(
    postgres: Postgres,
) -> None:
    async with deployed(postgres, STOCK, timezone="Asia/Tokyo") as deployment:
        await run_sql(
            deployment.service.url, 'ALTER TABLE session ALTER "expiresAt" TYPE timestamp'
        )
        async with service_on(deployment.service.url, **STOCK.settings) as service:
            ada = await deployment.auth.sign_up("ada")
            ends = await sql_value(service.url, 'SELECT "expiresAt" FROM session')

            assert abs(ends.replace(tzinfo=UTC) - (datetime.now(UTC) + timedelta(days=7))) < MINUTE
            await service.accepts(ada, ada.token)


@pytest.mark.parametrize("timezone", SOMEWHERE)
async def test_timestamps_with_a_zone_are_read_correctly_in_any_time_zone(
    postgres: Postgres, timezone: str
) -> None:
    async with deployed(postgres, STOCK, timezone=timezone, node_timezone=timezone) as deployment:
        ada = await deployment.auth.sign_up("ada")
        url = deployment.service.url
        move_end = "UPDATE session SET \"expiresAt\" = now() + interval '{}'"

        await run_sql(url, move_end.format("1 minute"))
        await deployment.service.accepts(ada, ada.token)

        await run_sql(url, move_end.format("-1 second"))
        await deployment.service.refuses(ada.token)
