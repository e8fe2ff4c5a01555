"""Ten thousand random writes at once: readers that follow miss nothing, and nobody deadlocks."""

from __future__ import annotations

import pytest

from persistence.embedded.postgres import Postgres
from persistence.pool import Pool, PoolSettings
from tests.feed_workload import Workload
from tests.neighbours.databases import new_installation

pytestmark = pytest.mark.drill


@pytest.mark.parametrize("deletes", [True, False])
async def test_ten_thousand_random_writes(postgres: Postgres, deletes: bool) -> None:
    url = await new_installation(postgres)
    pool = Pool(url, PoolSettings(10, 0, 30, 3600, True))
    workload = Workload(url, pool, seed=7, deletes=deletes)

    await workload.run(writes=5000, writers=12)

    await pool.close()
    print(dict(workload.done))
    assert workload.differences == workload.deadlocks == 0
