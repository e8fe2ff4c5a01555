"""Ids that no task has."""

from __future__ import annotations

NEVER_USED = 2**62
IMPOSSIBLE = [0, -1, 2**63, 10**30]
