"""Running migrations, and what a database has before and after them."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import asyncpg

from alembic import command
from persistence.migrations import (
    config,
)
from tests.conftest import ROOT

VERSIONS = sorted((ROOT / "alembic" / "versions").glob("*.py"))

# The auth server's, in both layouts; and a table that looks like one of ours but isn't.
NEIGHBOURS = """
INSERT INTO users VALUES ('ada', 'ada@example.com');
INSERT INTO user_sessions (user_id, token_hash, expires_at) VALUES ('ada', 'ab', '2030-01-01');
CREATE TABLE "user" (id text PRIMARY KEY, name text, "emailVerified" boolean);
CREATE TABLE session (id text PRIMARY KEY, token text UNIQUE, "expiresAt" timestamptz NOT NULL,
    "userId" text REFERENCES "user" ON DELETE CASCADE);
CREATE INDEX "session_userId_idx" ON session ("userId");
INSERT INTO "user" VALUES ('bob', 'Bob', true);
INSERT INTO session VALUES ('1', 'token', '2030-01-01', 'bob');
CREATE SCHEMA auth;
CREATE TABLE auth.tasks (id int);
CREATE TYPE role AS ENUM ('admin');
"""

COLUMNS = """
SELECT table_schema, table_name, column_name, data_type, is_nullable, column_default
FROM information_schema.columns
WHERE table_schema NOT IN ('pg_catalog', 'information_schema')
    AND NOT (table_schema = 'public'
        AND table_name IN ('tasks', 'idempotency_keys', 'feeds', 'twofold_alembic_version'))
ORDER BY 1, 2, 3
"""
ROWS = """
SELECT 1, (SELECT json_agg(row_to_json(t)) FROM (SELECT xmin, * FROM users) t)::text
UNION ALL SELECT 2, (SELECT json_agg(row_to_json(t)) FROM (SELECT xmin, * FROM user_sessions) t)::text
UNION ALL SELECT 3, (SELECT json_agg(row_to_json(t)) FROM (SELECT xmin, * FROM "user") t)::text
UNION ALL SELECT 4, (SELECT json_agg(row_to_json(t)) FROM (SELECT xmin, * FROM session) t)::text
UNION ALL SELECT 5, string_agg(indexdef, ';' ORDER BY indexdef) FROM pg_indexes
    WHERE schemaname = 'public' AND tablename NOT IN ('tasks', 'idempotency_keys', 'feeds', 'twofold_alembic_version')
ORDER BY 1
"""  # noqa: E501

INDEXES = """
SELECT relname, indisvalid FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
WHERE indrelid = 'tasks'::regclass ORDER BY 1
"""
EVERY_INDEX = {
    "ix_tasks_deleted_at": True,
    "ix_tasks_living": True,
    "ix_tasks_living_due": True,
    "ix_tasks_living_priority": True,
    "ix_tasks_living_updated": True,
    "ix_tasks_seq": True,
    "ix_tasks_trash": True,
    "ix_tasks_user_id_created_at_id": True,
    "pk_tasks": True,
}


async def tables(sql: asyncpg.Connection) -> set[str]:
    records = await sql.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    return {record["tablename"] for record in records}


async def migrate(url: str, revision: str = "head") -> None:
    await asyncio.to_thread(command.upgrade, config(url), revision)


async def migrate_back(url: str, revision: str = "base") -> None:
    await asyncio.to_thread(command.downgrade, config(url), revision)


async def indexes(sql: asyncpg.Connection) -> dict[str, bool]:
    """The indexes of our tasks, and whether each can be used."""
    return {record["relname"]: record["indisvalid"] for record in await sql.fetch(INDEXES)}


def alembic(url: str, *arguments: str, cwd: Path = ROOT) -> subprocess.Popen[str]:
    """The command as people type it."""
    return subprocess.Popen(
        [Path(sys.executable).with_name("alembic"), *arguments],
        cwd=cwd,
        env={"PATH": os.environ["PATH"], "DATABASE_URL": url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
