"""Tables that change while the service runs: readiness says so, and what was known is forgotten."""

from __future__ import annotations

import pytest

from api.app import create_app
from api.server import readiness
from tests.conftest import new_client, run_sql, settings_of_tests


@pytest.mark.parametrize(
    ("trouble", "failing"),
    [
        ("DROP TABLE tasks", "tasks"),
        ("ALTER TABLE tasks RENAME TO jobs", "tasks"),
        ("ALTER TABLE tasks RENAME title TO name", "tasks"),
        ("REVOKE INSERT ON tasks FROM servant", "tasks"),
        ("REVOKE UPDATE ON tasks FROM servant", "tasks"),
        ("REVOKE DELETE ON tasks FROM servant", "tasks"),
        ("REVOKE SELECT ON tasks FROM servant", "tasks"),
        ("REVOKE SELECT ON user_sessions FROM servant", "sessions"),
        ("DROP TABLE user_sessions", "sessions"),
        ("ALTER TABLE user_sessions RENAME expires_at TO ends_at", "sessions"),
    ],
)
async def test_a_table_that_cannot_be_used_any_more_is_unready(
    owners: str, servants: str, monkeypatch: pytest.MonkeyPatch, trouble: str, failing: str
) -> None:
    monkeypatch.setattr(readiness, "REUSE_SECONDS", 0.0)
    app = create_app(settings_of_tests(database_url=servants))
    async with app.router.lifespan_context(app), new_client(app) as client:
        before = await client.get("/health/ready")
        await run_sql(owners, trouble)
        after = await client.get("/health/ready")

    assert (before.status_code, after.status_code) == (200, 503)
    assert after.json()["failing"] == failing


async def test_a_session_table_that_is_renamed_is_found_without_a_restart(
    owners: str, servants: str
) -> None:
    await run_sql(
        owners,
        'CREATE TABLE session (token text, "userId" text, "expiresAt" timestamptz);'
        "INSERT INTO session VALUES ('t', 'ada', now() + interval '1 h');"
        "GRANT SELECT ON session TO servant",
    )
    app = create_app(settings_of_tests(database_url=servants, session_store="better-auth"))
    headers = {"Authorization": "Bearer t"}
    async with app.router.lifespan_context(app), new_client(app) as client:
        before = await client.get("/tasks", headers=headers)
        await run_sql(
            owners,
            "ALTER TABLE session RENAME TO sessions;"
            'ALTER TABLE sessions RENAME "expiresAt" TO expires_at',
        )
        after = await client.get("/tasks", headers=headers)

    assert (before.status_code, after.status_code) == (200, 200)
