"""Connections that a test holds, so that others have to wait for them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from persistence.pool import UNIDENTIFIED, Pool


@asynccontextmanager
async def holding(pool: Pool, *shares: str) -> AsyncIterator[None]:
    """One lease for each share, until the end of the block."""
    leases = [await pool.lease(share, 5) for share in shares or (UNIDENTIFIED,)]
    try:
        yield
    finally:
        for lease in leases:
            lease.give_back()
