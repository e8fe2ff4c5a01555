"""Row-level security on our table or on the auth server's: refused, because it hides rows."""

from __future__ import annotations

import pytest

from api.app import create_app
from api.server import readiness
from tests.conftest import new_client, run_sql, settings_of_tests


@pytest.mark.parametrize("table", ["tasks", "idempotency_keys", "feeds", "user_sessions"])
async def test_row_level_security_that_hides_rows_stops_the_start(
    owners: str, servants: str, table: str
) -> None:
    await run_sql(owners, f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    app = create_app(settings_of_tests(database_url=servants))

    with pytest.raises(Exception, match=f"ow-level security of the table {table} applies"):
        async with app.router.lifespan_context(app):
            pass


@pytest.mark.parametrize("table", ["tasks", "idempotency_keys", "feeds", "user_sessions"])
async def test_row_level_security_that_is_enabled_later_is_seen_by_readiness(
    owners: str, servants: str, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "REUSE_SECONDS", 0.0)
    app = create_app(settings_of_tests(database_url=servants))
    async with app.router.lifespan_context(app), new_client(app) as client:
        before = await client.get("/health/ready")
        await run_sql(owners, f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        after = await client.get("/health/ready")

    assert (before.status_code, after.status_code) == (200, 503)
    assert after.json()["failing"] == ("sessions" if table == "user_sessions" else table)
