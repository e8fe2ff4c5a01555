"""How many functions of ours a request begins: each costs it CPU, and this number never wavers.

The bounds leave room for a few more. Who exceeds one measures (``make bench``) what that costs.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

import pytest

from tests.operations import Api
from tests.people import Person
from tests.walk import is_ours

MOST: Final = {
    "get": {Api.REST: 131, Api.GRAPHQL: 186},
    "list": {Api.REST: 151, Api.GRAPHQL: 229},
    "create": {Api.REST: 186, Api.GRAPHQL: 240},
}


@contextmanager
def begun() -> Iterator[list[FrameType]]:
    """The functions of ours that begin in this block, in this thread."""
    frames: dict[int, FrameType] = {}
    result: list[FrameType] = []

    def watch(frame: FrameType, event: str, _: object) -> None:
        # A coroutine that continues is the same frame. Comprehensions are parts of functions.
        if event == "call" and is_ours(frame.f_code) and frame.f_code.co_name[0] != "<":
            frames.setdefault(id(frame), frame)

    sys.setprofile(watch)
    try:
        yield result
    finally:
        sys.setprofile(None)
        result += frames.values()


@pytest.mark.parametrize("operation", MOST)
async def test_a_request_begins_few_functions(ada: Person, operation: str) -> None:
    task = await ada.create_task("water the plants")
    run: Callable[[], Awaitable[object]] = {
        "get": lambda: ada.get_task(task.id),
        "list": lambda: ada.list_tasks(limit=50),
        "create": lambda: ada.create_task("sleep in"),
    }[operation]
    await run()

    with begun() as frames:
        await run()

    assert len(frames) <= MOST[operation][ada.surface.api]
