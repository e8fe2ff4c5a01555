"""Titles and descriptions: which text they may have, and what is stored."""

from __future__ import annotations

import pytest

from tests.people import Person

# Unicode's white space, all of it.
WHITE_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2000\u2003\u200a\u2028\u2029\u202f\u205f\u3000"


@pytest.mark.parametrize("space", WHITE_SPACE)
async def test_a_title_is_trimmed_of_all_of_unicodes_white_space(space: str, ada: Person) -> None:
    task = await ada.create_task(f"{space}water{space}the plants{space}")

    assert task.title == f"water{space}the plants"


@pytest.mark.parametrize("title", ["", " ", WHITE_SPACE])
async def test_a_blank_title_is_too_short(title: str, ada: Person) -> None:
    with ada.refused("validation_error") as refusal:
        await ada.create_task(title)

    assert refusal.value.fields == {"title": "string_too_short"}


@pytest.mark.parametrize(
    "title",
    ["x" * 200, "🪴" * 200, "e\u0301" * 100, "👩‍🌾" * 66, f"  {'x' * 200}  "],
    ids=["ascii", "emoji", "combining", "joined", "trimmed"],
)
async def test_a_title_may_have_two_hundred_code_points(title: str, ada: Person) -> None:
    assert (await ada.create_task(title)).title == title.strip()


@pytest.mark.parametrize(
    "title", ["x" * 201, "🪴" * 201, "e\u0301" * 100 + "x"], ids=["ascii", "emoji", "combining"]
)
async def test_a_title_of_one_more_is_too_long(title: str, ada: Person) -> None:
    with ada.refused("validation_error") as refusal:
        await ada.create_task(title)

    assert refusal.value.fields == {"title": "string_too_long"}


@pytest.mark.parametrize("letter", ["x", "🪴"])
async def test_a_description_may_have_a_thousand_code_points(letter: str, ada: Person) -> None:
    task = await ada.create_task("water", description=letter * 1000)
    with ada.refused("validation_error") as refusal:
        await ada.create_task("water", description=letter * 1001)

    assert task.description == letter * 1000
    assert refusal.value.fields == {"description": "string_too_long"}


@pytest.mark.parametrize("description", ["", " ", WHITE_SPACE, None])
async def test_a_blank_description_is_none(description: str | None, ada: Person) -> None:
    assert (await ada.create_task("water", description=description)).description is None


@pytest.mark.parametrize("description", ["  kept \n", "\u200b", "\ufeff", "\x1c"])
async def test_any_other_description_is_kept_as_sent(description: str, ada: Person) -> None:
    assert (await ada.create_task("water", description=description)).description == description


@pytest.mark.parametrize(
    "text",
    ["é", "e\u0301", "\U0010ffff", "\ue000", "\u202ertl", "שלום", "a\r\nb\tc", "\x01\x7f", "'; --"],
)
async def test_text_survives_byte_for_byte(text: str, ada: Person) -> None:
    task = await ada.create_task(f"<{text}>", description=text)
    read = await ada.get_task(task.id)

    assert (read.title.encode(), (read.description or "").encode()) == (
        f"<{text}>".encode(),
        text.encode(),
    )


@pytest.mark.parametrize("field", ["title", "description"])
async def test_nul_is_rejected(field: str, ada: Person) -> None:
    task = await ada.create_task("water")

    with ada.refused("validation_error") as refusal:
        await ada.change_task(task.id, None, **{field: "a\x00b"})

    assert refusal.value.fields == {field: "string_nul"}


async def test_every_error_is_reported_not_only_the_first(ada: Person) -> None:
    with ada.refused("validation_error") as refusal:
        await ada.create_task("", description="x" * 1001)

    assert refusal.value.fields == {"title": "string_too_short", "description": "string_too_long"}
