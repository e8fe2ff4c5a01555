"""An instance whose sessions cannot be read logs why, and does not start."""

from __future__ import annotations

import asyncio
import re
import subprocess

import pytest

from persistence.embedded.postgres import Postgres
from tests.conftest import HASH_SECRET, ROOT, new_database
from tests.control import GIVE_UP
from tests.drills.instances import UVICORN, WORKERS
from tests.log_lines import has_exception
from tests.servers import COMMAND

pytestmark = pytest.mark.timeout(600)


@pytest.mark.parametrize(
    ("command", "counts"),
    [
        pytest.param(COMMAND, {1}, id="twofold serve"),
        pytest.param(UVICORN, {1}, id="uvicorn"),
        # Each worker logs it, unless the other one ended both.
        pytest.param(
            (*COMMAND, *WORKERS), {1, 2}, id="twofold serve --workers", marks=pytest.mark.drill
        ),
    ],
)
@pytest.mark.drill
async def test_unusable_sessions_are_logged_in_one_sentence(
    command: tuple[str, ...], counts: set[int], sessionless: str
) -> None:
    settings = {
        "DATABASE_URL": sessionless, "SESSION_HASH_SECRET": HASH_SECRET,
        "ENVIRONMENT": "testing", "PORT": "0", "UVICORN_PORT": "0",
    }  # fmt: skip
    ended = await asyncio.to_thread(
        subprocess.run,
        command,
        cwd=ROOT,
        env=settings,
        capture_output=True,
        text=True,
        timeout=GIVE_UP,
    )

    sentences = re.findall(
        r"(?i)error.*There is no table user_sessions in the database", ended.stderr
    )
    assert len(sentences) in counts
    assert not has_exception(ended.stderr)
    assert ended.returncode == 3


@pytest.fixture(scope="module")
async def sessionless(postgres: Postgres) -> str:
    """A database without the auth server's tables."""
    return await new_database(postgres, "sessionless")
