"""How many responses to one person are under way at once."""

from __future__ import annotations

import asyncio

import pytest

import api.rate_limit.response_slots
from api.rate_limit.response_slots import (
    MAX_SLOTS,
    MAX_WAITING_REQUESTS,
    RequestSlots,
    ResponseSlots,
)
from persistence.errors import Unavailable


async def _settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def take_slots(slots: ResponseSlots, payer: str, cost: int = 1) -> RequestSlots:
    taken = RequestSlots(slots)
    await taken.begin(payer, cost)
    return taken


async def test_all_slots_can_be_taken_at_once_and_the_next_request_waits() -> None:
    slots = ResponseSlots()
    first = [await take_slots(slots, "ada") for _ in range(MAX_SLOTS)]

    waiting = asyncio.create_task(take_slots(slots, "ada"))
    await _settle()
    assert not waiting.done()
    first.pop().end()
    await _settle()

    assert waiting.done()
    (await waiting).end()
    for each in first:
        each.end()
    assert len(slots) == 0


async def test_one_persons_responses_do_not_delay_anothers() -> None:
    slots = ResponseSlots()
    ada_client = await take_slots(slots, "ada", MAX_SLOTS)

    bob_client = await asyncio.wait_for(take_slots(slots, "bob", MAX_SLOTS), 1)

    ada_client.end()
    bob_client.end()
    assert len(slots) == 0


async def test_a_large_request_waits_for_all_slots_and_is_not_overtaken() -> None:
    slots = ResponseSlots()
    small = await take_slots(slots, "ada")
    order: list[str] = []

    async def take(name: str, cost: int) -> RequestSlots:
        taken = await take_slots(slots, "ada", cost)
        order.append(name)
        return taken

    large = asyncio.create_task(take("large", 50))
    await _settle()
    behind = asyncio.create_task(take("behind", 1))
    await _settle()
    assert order == []

    small.end()
    await _settle()
    assert order == ["large"]
    (await large).end()
    (await behind).end()
    assert order == ["large", "behind"]
    assert len(slots) == 0


async def test_a_wait_that_is_too_long_is_unavailable_and_the_next_request_proceeds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(api.rate_limit.response_slots, "WAIT_SECONDS", 0.05)
    slots = ResponseSlots()
    most = await take_slots(slots, "ada", MAX_SLOTS - 1)

    large = asyncio.create_task(take_slots(slots, "ada", MAX_SLOTS))
    await _settle()
    monkeypatch.setattr(api.rate_limit.response_slots, "WAIT_SECONDS", 10)
    behind = asyncio.create_task(take_slots(slots, "ada"))

    with pytest.raises(Unavailable):
        await large
    (await asyncio.wait_for(behind, 1)).end()
    most.end()
    assert len(slots) == 0


async def test_the_number_of_waiting_requests_is_bounded() -> None:
    slots = ResponseSlots()
    most = await take_slots(slots, "ada", MAX_SLOTS)
    queue = [asyncio.create_task(take_slots(slots, "ada")) for _ in range(MAX_WAITING_REQUESTS)]
    await _settle()

    with pytest.raises(Unavailable):
        await asyncio.wait_for(take_slots(slots, "ada"), 1)

    most.end()
    for each in queue:
        (await each).end()
    assert len(slots) == 0


@pytest.mark.parametrize("ended", ["before", "after"])
async def test_no_slot_is_lost_when_a_request_is_cancelled_as_it_gets_one(ended: str) -> None:
    slots = ResponseSlots()
    most = await take_slots(slots, "ada", MAX_SLOTS)
    waiting = asyncio.create_task(take_slots(slots, "ada"))
    await _settle()

    if ended == "before":
        most.end()
        waiting.cancel()
    else:
        waiting.cancel()
        most.end()
    with pytest.raises(asyncio.CancelledError):
        await waiting

    assert len(slots) == 0
