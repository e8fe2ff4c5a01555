"""A Redis user with only the rights that ``docs/deploy.md`` names, and with one of them missing."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis.asyncio import Redis

from api.charges import Cost, Kind
from api.live.hints import RedisHints
from api.rate_limit.budget import Budget
from persistence.embedded.valkey import Valkey
from persistence.embedded.valkey import valkey as embedded_valkey
from persistence.redis_url import parse_redis_url
from tests.conftest import ROOT, settings_of_tests
from tests.control import GIVE_UP
from tests.log_lines import records_of

[RULES] = re.findall(r"ACL SETUSER twofold (.+)", (Path(ROOT) / "docs/deploy.md").read_text())
OF_HINTS = ["&twofold:changes", "+publish", "+subscribe"]
RIGHTS = [rule for rule in RULES.split() if rule[0] in "+~" and rule not in OF_HINTS]


@pytest.fixture(scope="module")
def valkey() -> Iterator[Valkey]:
    with embedded_valkey() as server:
        yield server


@pytest.fixture
async def admin(valkey: Valkey) -> AsyncIterator[Redis]:
    async with Redis.from_url(valkey.url) as admin:
        yield admin
        await admin.execute_command("ACL DELUSER twofold")
        await admin.script_flush()


async def spend(valkey: Valkey, admin: Redis, *, again: bool = False) -> str | None:
    """Spend from both budgets; returns what the budget says of its Redis.

    Args:
        again: also when the first hits have left their windows.
    """
    budget = Budget(settings_of_tests(
        database_url="postgresql://h/d", rate_limit_enabled=True,
        rate_limit_read="100/second", rate_limit_write="100/second",
        redis_url=f"redis://twofold:password@127.0.0.1:{valkey.port}/0",
    ))  # fmt: skip
    await budget.open()
    # As after a restart of Redis.
    await admin.script_flush()
    for pause in (0.0, 1.1) if again else (0.0,):
        await asyncio.sleep(pause)
        for _ in range(4):
            for kind in Kind:
                await budget.spend("user:ada", Cost(kind))
    status = budget.redis
    await budget.close()
    return status


async def test_the_documented_rights_are_enough(valkey: Valkey, admin: Redis) -> None:
    await admin.execute_command("ACL", "SETUSER", "twofold", *RULES.split())

    assert await spend(valkey, admin, again=True) == "ok"


@pytest.mark.parametrize("right", RIGHTS)
async def test_a_missing_right_is_named_in_the_log(
    right: str, valkey: Valkey, admin: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    rules = [rule for rule in RULES.split() if rule != right]
    await admin.execute_command("ACL", "SETUSER", "twofold", *rules)

    assert await spend(valkey, admin, again=right == "+rpop") == "degraded"
    [warning] = [record.getMessage() for record in records_of(caplog, "twofold.budget")]
    assert "NOPERM" in warning or "ACL failure" in warning or "No permissions" in warning
    assert "password" not in warning


@pytest.mark.parametrize("allowed", ["~twofold:read:*", "~twofold:probe*"])
async def test_rights_to_some_keys_alone_do_not_pass_for_enough(
    allowed: str, valkey: Valkey, admin: Redis
) -> None:
    rules = [allowed if rule.startswith("~") else rule for rule in RULES.split()]
    await admin.execute_command("ACL", "SETUSER", "twofold", *rules)

    assert await spend(valkey, admin) == "degraded"


# --- Hints between instances --------------------------------------------------------------


@asynccontextmanager
async def hints_of(valkey: Valkey) -> AsyncIterator[RedisHints]:
    """Hints that have just connected, or failed to."""
    server = parse_redis_url(f"redis://twofold:password@127.0.0.1:{valkey.port}/0")
    connected = asyncio.Event()
    hints = RedisHints(server, lambda _: None, connected.set)
    hints.open()
    async with asyncio.timeout(GIVE_UP):
        while not (connected.is_set() or hints.are_lost):  # noqa: ASYNC110  # no event
            await asyncio.sleep(0.01)
    yield hints
    await hints.close()


async def test_the_documented_rights_are_enough_for_hints(valkey: Valkey, admin: Redis) -> None:
    await admin.execute_command("ACL", "SETUSER", "twofold", *RULES.split())

    async with hints_of(valkey) as hints:
        assert not hints.are_lost


@pytest.mark.parametrize("right", OF_HINTS)
async def test_a_missing_right_of_hints_is_named_in_the_log(
    right: str, valkey: Valkey, admin: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    rules = [rule for rule in RULES.split() if rule != right]
    await admin.execute_command("ACL", "SETUSER", "twofold", *rules)

    async with hints_of(valkey) as hints:
        assert hints.are_lost
    [warning] = [record.getMessage() for record in records_of(caplog, "twofold.live")]
    assert "NOPERM" in warning or "No permissions" in warning
    assert warning.endswith(f"at 127.0.0.1:{valkey.port}")
