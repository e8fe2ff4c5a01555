"""How many answers of one person are under way at once."""

from __future__ import annotations

import asyncio

import pytest

import api.rate_limit.answers
from api.rate_limit.answers import MAX_UNITS, MAX_WAITING, Answering, Answers
from persistence.errors import Unavailable


async def _settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def _begun(answers: Answers, payer: str, cost: int = 1) -> Answering:
    answering = Answering(answers)
    await answering.begin(payer, cost)
    return answering


async def test_as_many_units_as_there_are_can_be_taken_at_once_and_the_next_waits() -> None:
    answers = Answers()
    first = [await _begun(answers, "ada") for _ in range(MAX_UNITS)]

    waiting = asyncio.create_task(_begun(answers, "ada"))
    await _settle()
    assert not waiting.done()
    first.pop().end()
    await _settle()

    assert waiting.done()
    (await waiting).end()
    for each in first:
        each.end()
    assert len(answers) == 0


async def test_one_persons_answers_are_nothing_to_another() -> None:
    answers = Answers()
    ada_client = await _begun(answers, "ada", MAX_UNITS)

    bob_client = await asyncio.wait_for(_begun(answers, "bob", MAX_UNITS), 1)

    ada_client.end()
    bob_client.end()
    assert len(answers) == 0


async def test_who_wants_more_than_there_is_waits_for_all_and_nobody_passes_by() -> None:
    answers = Answers()
    small = await _begun(answers, "ada")
    order: list[str] = []

    async def take(name: str, cost: int) -> Answering:
        answering = await _begun(answers, "ada", cost)
        order.append(name)
        return answering

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
    assert len(answers) == 0


async def test_who_waits_too_long_is_told_so_and_the_next_is_not_kept_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(api.rate_limit.answers, "WAIT_SECONDS", 0.05)
    answers = Answers()
    most = await _begun(answers, "ada", MAX_UNITS - 1)

    large = asyncio.create_task(_begun(answers, "ada", MAX_UNITS))
    await _settle()
    monkeypatch.setattr(api.rate_limit.answers, "WAIT_SECONDS", 10)
    behind = asyncio.create_task(_begun(answers, "ada"))

    with pytest.raises(Unavailable):
        await large
    (await asyncio.wait_for(behind, 1)).end()
    most.end()
    assert len(answers) == 0


async def test_the_line_has_an_end() -> None:
    answers = Answers()
    most = await _begun(answers, "ada", MAX_UNITS)
    line = [asyncio.create_task(_begun(answers, "ada")) for _ in range(MAX_WAITING)]
    await _settle()

    with pytest.raises(Unavailable):
        await asyncio.wait_for(_begun(answers, "ada"), 1)

    most.end()
    for each in line:
        (await each).end()
    assert len(answers) == 0


@pytest.mark.parametrize("ended", ["before", "after"])
async def test_nothing_is_lost_when_a_request_is_cancelled_at_its_turn(ended: str) -> None:
    answers = Answers()
    most = await _begun(answers, "ada", MAX_UNITS)
    waiting = asyncio.create_task(_begun(answers, "ada"))
    await _settle()

    if ended == "before":
        most.end()
        waiting.cancel()
    else:
        waiting.cancel()
        most.end()
    with pytest.raises(asyncio.CancelledError):
        await waiting

    assert len(answers) == 0
