"""Anonymous visitors who sign up keep their tasks."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from persistence.embedded.postgres import Postgres
from tests.auth_server.client import (
    running,
)
from tests.better_auth.deployments import STOCK, Deployment, service_on
from tests.conftest import new_database, run_sql
from tests.people import Person

pytestmark = [pytest.mark.node, pytest.mark.usefixtures("node")]


@asynccontextmanager
async def with_visitors(postgres: Postgres, **environment: str) -> AsyncIterator[Deployment]:
    """An auth server with anonymous visitors, and Twofold with a schema of its own."""
    url = await new_database(postgres, f"visitors_{secrets.token_hex(6)}")
    environment |= {
        "DATABASE_URL": url,
        "DATABASE_SCHEMA": "twofold",
        # Where the command is.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    }
    async with (
        running("anonymous", **environment) as auth,
        service_on(url, database_schema="twofold", **STOCK.settings) as service,
    ):
        yield Deployment(auth, service)


@pytest.mark.parametrize("how", ["command", "sql"])
async def test_what_an_anonymous_visitor_has_done_is_theirs_when_they_sign_up(
    postgres: Postgres, how: str
) -> None:
    async with with_visitors(postgres, REASSIGN=how) as deployment:
        visitor = await deployment.auth.visit()
        other = await deployment.auth.visit()
        await deployment.service.accepts(visitor, visitor.token)
        await deployment.service.accepts(other, other.token)

        ada = await deployment.auth.sign_up("ada", visitor.token)

        assert ada.user_id != visitor.user_id
        await deployment.service.refuses(visitor.token)
        for surface in deployment.service.surfaces:
            tasks = (await Person("ada", ada.token, surface).list_tasks()).tasks
            assert [(task.user_id, task.version) for task in tasks] == [(ada.user_id, 2)] * 2
            assert len((await Person("other", other.token, surface).list_tasks()).tasks) == 2


async def test_a_visitor_whose_tasks_could_not_be_reassigned_gets_them_when_they_try_again(
    postgres: Postgres,
) -> None:
    async with with_visitors(postgres) as deployment:
        auth, service = deployment.auth, deployment.service
        visitor = await auth.visit()
        await service.accepts(visitor, visitor.token)

        await run_sql(service.url, "ALTER TABLE twofold.tasks RENAME TO away")
        with pytest.raises(AssertionError):
            await auth.sign_up("ada", visitor.token)
        await run_sql(service.url, "ALTER TABLE twofold.away RENAME TO tasks")
        ada = await auth.sign_in("ada@example.com", visitor.token)

        [rest, _] = service.surfaces
        tasks = (await Person("ada", ada.token, rest).list_tasks()).tasks
        assert [task.user_id for task in tasks] == [ada.user_id] * 2
