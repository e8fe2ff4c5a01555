"""The control notices what makes the machine slow, and extends bounds by no more than that."""

from __future__ import annotations

import asyncio
import time

import psutil
import pytest

from tests.control import Control


async def measured(control: Control) -> None:
    """Wait until the trivial server has answered a few times."""
    await asyncio.sleep(0.3)


async def test_a_blocked_event_loop_extends_a_bound() -> None:
    async with Control.running() as control:
        await measured(control)
        time.sleep(0.5)  # noqa: ASYNC251  # it has to block
        await measured(control)

    assert control.slowest > 0.4
    assert control.bound(1) == pytest.approx(1 + 3 * control.slowest)


async def test_a_process_that_is_not_scheduled_extends_a_bound() -> None:
    async with Control.running() as control:
        await measured(control)
        server = psutil.Process(control.server)
        server.suspend()
        await asyncio.sleep(0.5)
        server.resume()
        await measured(control)

    assert control.slowest > 0.4
