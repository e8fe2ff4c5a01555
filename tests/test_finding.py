"""Finding tasks: what one request asks for beyond the random ones that compare the protocols."""

from __future__ import annotations

import asyncio
import unicodedata
from typing import Any, Final

import asyncpg
import httpx
import pytest

from api import cli
from persistence.cursors import Position, encode_cursor
from persistence.search import searchable
from tests.model_refusals import ORDERS
from tests.people import Person
from tests.trips import TripCounter

TASKS: Final[list[dict[str, Any]]] = [
    {"title": "Wasser für die Straße", "priority": "high", "due": "2025-12-10"},
    {"title": "CAFÉ", "description": "100 % ﬁne_grained", "tags": ["Home", "Garden"]},
    {"title": "買い物リスト", "due": "2025-12-10T23:30:00Z", "tags": ["home"]},
    {
        "title": "\uff57\uff41\uff54\uff45\uff52 the plants",
        "priority": "low",
        "due": "2025-12-11",
        "completed": True,
    },
    {"title": "a\\b", "description": "C:\\temp", "priority": "high"},
]


@pytest.fixture
async def titles(ada: Person) -> list[str]:
    """The titles of Ada's tasks, in the order in which she made them."""
    for members in TASKS:
        await ada.create_task(**members)
    return [members["title"] for members in TASKS]


SEARCHES: Final = [
    ("strasse", [0]),
    ("WASS", [0]),
    ("cafe", [1]),
    ("fine grain", [1]),
    ("%", [1]),
    ("_", [1]),
    ("100 caf", [1]),
    ("買い", [2]),
    ("リスト", [2]),
    ("water", [3]),
    ("\uff37\uff21\uff34", [3]),
    ("\\", [4]),
    ("c:\\t", [4]),
    ("plants strasse", []),
]


@pytest.mark.parametrize(("query", "expected"), SEARCHES)
async def test_a_search_finds_every_word_anywhere_in_a_word(
    ada: Person, titles: list[str], query: str, expected: list[int]
) -> None:
    matches = await ada.list_tasks(q=query)

    assert matches.titles == [titles[place] for place in expected]


@pytest.mark.parametrize(("query", "expected"), SEARCHES[:8])
async def test_a_search_finds_what_the_release_before_wrote(
    ada: Person, titles: list[str], sql: asyncpg.Connection, query: str, expected: list[int]
) -> None:
    """It changes titles and versions, and knows nothing of the text that is stored for searches."""
    await sql.execute("UPDATE tasks SET title = $1, version = 2 WHERE title = $2", "x", titles[3])
    await sql.execute(
        "INSERT INTO tasks (user_id, title) SELECT 'ada', title FROM tasks WHERE title <> 'x'"
    )

    matches = await ada.list_tasks(q=query, order="created_asc")

    assert {*matches.titles} == {titles[place] for place in expected}
    assert (await ada.list_tasks(q="water")).titles == []
    assert (await ada.list_tasks(q="X")).titles == ["x"]


async def test_a_search_through_old_tasks_has_pages_and_totals(
    ada_client: httpx.AsyncClient, sql: asyncpg.Connection
) -> None:
    await sql.execute(
        "INSERT INTO tasks (user_id, title) SELECT 'ada', CASE WHEN n % 100 = 0 THEN 'Été' ELSE"
        " 'hiver' END || n FROM generate_series(1, 2500) n"
    )
    matches, url = [], httpx.URL("/tasks?q=ete&limit=10&order=created_asc")
    while True:
        response = await ada_client.get(url, headers={"Prefer": "count=exact"})
        matches += [task["title"] for task in response.json()]
        assert response.headers["X-Total-Count"] == "25"
        if "next" not in response.links:
            break
        url = response.url.join(response.links["next"]["url"])

    assert matches == [f"Été{n}" for n in range(100, 2501, 100)]


async def test_migrate_computes_the_text_of_old_tasks(
    ada: Person,
    titles: list[str],
    sql: asyncpg.Connection,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stored = await sql.fetch("SELECT id, search_text, search_version FROM tasks ORDER BY id")
    await sql.execute("UPDATE tasks SET search_text = NULL, search_version = NULL WHERE id % 2 = 0")
    await sql.execute("UPDATE tasks SET search_text = 'other', search_version = 0 WHERE id % 2 = 1")
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setattr("api.commands.migrate.BATCH", 2)

    assert await asyncio.to_thread(cli.main, ["migrate"]) == 0

    columns = "SELECT id, search_text, search_version FROM tasks ORDER BY id"
    assert await sql.fetch(columns) == stored
    assert [task.version for task in (await ada.list_tasks()).tasks] == [1] * 5


@pytest.mark.parametrize(
    "change",
    [{"title": "b"}, {"description": "c"}, {"completed": True}, {"title": "x", "description": "y"}],
)
@pytest.mark.parametrize("stale", [True, False])
async def test_a_change_leaves_no_wrong_text(
    ada: Person, sql: asyncpg.Connection, change: dict[str, Any], stale: bool
) -> None:
    """The text of a version is right or missing, whether or not the earlier one had a text."""
    task = await ada.create_task("old title", description="old description")
    if stale:
        await sql.execute("UPDATE tasks SET title = 'a', description = 'd', version = 2")

    changed = await ada.change_task(task.id, **change)

    text, version = await sql.fetchrow("SELECT search_text, search_version FROM tasks")
    is_known = not stale or change.keys() >= {"title", "description"}
    assert version == changed.version
    assert text == (f"{changed.title}\n{changed.description}" if is_known else None)


def test_every_mark_of_unicode_is_removed_and_ascii_is_no_other_case() -> None:
    for character in map(chr, range(0x110000)):
        folded = unicodedata.normalize("NFKC", character).casefold()
        # Case folding makes a letter of one mark, U+0345.
        if all(unicodedata.category(each).startswith("M") for each in folded):
            assert searchable(f"a{character}") == "a"
    ascii_text = "".join(map(chr, range(128)))
    assert searchable(ascii_text) == searchable(f"{ascii_text}\u0301")


# --- Due days and zones -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"due_from": "2025-12-10", "due_before": "2025-12-11"}, [0, 2]),
        ({"due_from": "2025-12-10", "due_before": "2025-12-11", "zone": "Europe/Berlin"}, [0]),
        ({"due_from": "2025-12-11", "due_before": "2025-12-12", "zone": "Europe/Berlin"}, [2, 3]),
        ({"due_from": "2025-12-10", "due_before": "2025-12-11", "zone": "Etc/GMT+12"}, [0, 2]),
        ({"due_from": "2025-12-10T00:00:00Z", "zone": "America/New_York"}, [0, 2, 3]),
        ({"due_from": "2025-12-10T00:00:00Z", "zone": "Europe/Berlin"}, [2, 3]),
        ({"has_due": False}, [1, 4]),
        ({"priority": ["high"], "has_due": True}, [0]),
        ({"priority": ["low", "high"]}, [0, 3, 4]),
        ({"tags": ["HOME"]}, [1, 2]),
        ({"tags": ["home", "garden"]}, [1]),
        ({"created_from": "2100-01-01T00:00:00Z"}, []),
        ({"updated_before": "2100-01-01T00:00:00Z", "completed": True}, [3]),
    ],
)
async def test_all_conditions_of_a_filter_hold(
    ada: Person, titles: list[str], query: dict[str, Any], expected: list[int]
) -> None:
    matches = await ada.list_tasks(**query, order="created_asc")

    assert matches.titles == [titles[place] for place in expected]


async def test_times_of_creation_and_change_are_half_open(ada: Person) -> None:
    first, second = await ada.create_task("sow"), await ada.create_task("reap")

    assert (await ada.list_tasks(created_from=second.created_at)).tasks == [second]
    assert (await ada.list_tasks(created_before=second.created_at)).tasks == [first]
    assert (await ada.list_tasks(updated_from=second.updated_at)).tasks == [second]
    assert (await ada.list_tasks(updated_before=second.updated_at)).tasks == [first]


# --- Orders and cursors -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("created_desc", [4, 3, 2, 1, 0]),
        ("created_asc", [0, 1, 2, 3, 4]),
        ("updated_desc", [0, 4, 3, 2, 1]),
        ("due_asc", [0, 2, 3, 1, 4]),
        ("priority_desc", [4, 0, 3, 2, 1]),
    ],
)
@pytest.mark.parametrize("limit", [1, 2, 5])
async def test_a_list_walked_by_cursor_has_every_task_once_in_its_order(
    ada: Person, titles: list[str], order: str, expected: list[int], limit: int
) -> None:
    newest_first = (await ada.list_tasks()).tasks
    await ada.change_task(newest_first[-1].id, description="changed last")
    matches: list[str] = []
    cursor = None
    while True:
        page = await ada.list_tasks(order=order, limit=limit, cursor=cursor)
        matches += page.titles
        cursor = page.next_cursor
        if cursor is None:
            break

    assert matches == [titles[place] for place in expected]


@pytest.mark.parametrize("order", ORDERS)
async def test_a_list_can_be_walked_from_its_end(ada_client: httpx.AsyncClient, order: str) -> None:
    for members in TASKS:
        await ada_client.post("/tasks", json=members)
    forward = (await ada_client.get("/tasks", params={"order": order})).json()
    backward: list[str] = []
    before = None
    while True:
        variables = {"before": before, "orderBy": order.upper()}
        response = await ada_client.post("/graphql", json={"query": LAST, "variables": variables})
        page = response.json()["data"]["tasks"]
        backward = [node["title"] for node in page["nodes"]] + backward
        before = page["pageInfo"]["startCursor"]
        if not page["pageInfo"]["hasPreviousPage"]:
            break

    assert backward == [task["title"] for task in forward]


LAST: Final = """
query ($before: String, $orderBy: TaskOrder) {
  tasks(last: 2, before: $before, orderBy: $orderBy) {
    nodes { title } pageInfo { startCursor hasPreviousPage }
  }
}"""


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("other", ORDERS)
async def test_a_cursor_belongs_to_its_order(
    ada: Person, titles: list[str], order: str, other: str
) -> None:
    cursor = (await ada.list_tasks(order=other, limit=1)).next_cursor

    if order == other:
        assert len((await ada.list_tasks(order=order, cursor=cursor)).tasks) == 4
    else:
        with ada.refused("validation_error") as refusal:
            await ada.list_tasks(order=order, cursor=cursor)
        assert refusal.value.fields == {"cursor": "cursor_invalid"}


@pytest.mark.parametrize(
    ("order", "position"),
    [
        ("priority_desc", Position(4, 1, 4)),
        ("priority_desc", Position(-1, 1, 4)),
        ("due_asc", Position(2**63 - 2, 1, 3)),
        ("updated_desc", Position(2**63 - 1, 1, 2)),
        ("created_desc", Position(2**63 - 1, 1)),
        ("created_desc", Position(0, 1, 9)),
    ],
)
async def test_a_position_that_no_task_can_have_is_rejected(
    ada: Person, order: str, position: Position
) -> None:
    with ada.refused("validation_error"):
        await ada.list_tasks(order=order, cursor=encode_cursor(position))


async def test_the_last_moment_of_all_is_no_infinity(ada: Person) -> None:
    for due in (None, "9999-12-31T23:59:59.999999Z", "9999-12-31", "0001-01-01"):
        await ada.create_task(str(due), due=due)
    matches, cursor = [], None
    for _ in range(4):
        page = await ada.list_tasks(order="due_asc", limit=1, cursor=cursor)
        matches += page.titles
        cursor = page.next_cursor

    assert matches == ["0001-01-01", "9999-12-31", "9999-12-31T23:59:59.999999Z", "None"]
    assert cursor is None


# --- REST ---------------------------------------------------------------------------------


async def test_the_link_keeps_every_parameter(ada_client: httpx.AsyncClient) -> None:
    for number in range(3):
        new = {"title": f"sow {number}", "priority": "high", "tags": ["Home"], "due": "2025-12-10"}
        await ada_client.post("/tasks", json=new)
    query = {
        "completed": "false", "priority": "high,low", "tags": "home", "has_due": "true",
        "due_from": "2025-12-10T00:00:00+01:00", "due_before": "2025-12-11",
        "zone": "Europe/London", "created_from": "2020-01-01T00:00:00Z", "q": "so & w",
        "order": "due_asc", "limit": "1", "envelope": "true",
    }  # fmt: skip
    first = await ada_client.get("/tasks", params=query | {"q": "so w"})

    second = await ada_client.get(first.url.join(first.links["next"]["url"]))

    sent = dict(second.url.params)
    assert sent.pop("cursor") == first.json()["next_cursor"]
    assert sent == query | {"q": "so w"}
    assert second.json()["items"][0]["title"] == "sow 1"


@pytest.mark.parametrize(
    ("preference", "is_applied"),
    [
        ("count=exact", True),
        ('Count="exact"', True),
        ("respond-async, count=exact; foo=bar", True),
        ("count=planned", False),
        ("", False),
    ],
)
async def test_a_total_is_counted_when_it_is_preferred(
    ada_client: httpx.AsyncClient, preference: str, is_applied: bool
) -> None:
    for completed in (True, False, False):
        await ada_client.post("/tasks", json={"title": "sow", "completed": completed})

    response = await ada_client.get(
        "/tasks?limit=1&completed=false", headers={"Prefer": preference}
    )

    assert response.headers.get("X-Total-Count") == ("2" if is_applied else None)
    assert response.headers.get("Preference-Applied") == ("count=exact" if is_applied else None)


@pytest.mark.parametrize(
    "query",
    ["q=", "priority=high&priority=low", "priority=", "tags=home,", "sort=due", "order=", "zone="],
)
async def test_a_parameter_that_is_unknown_repeated_or_empty_is_rejected(
    ada_client: httpx.AsyncClient, query: str
) -> None:
    assert (await ada_client.get(f"/tasks?{query}")).status_code == 400


async def test_a_list_is_one_trip_and_its_total_another(
    ada_client: httpx.AsyncClient, trips: TripCounter
) -> None:
    url = "/tasks?q=sow&order=due_asc&limit=10&due_from=2025-12-10&zone=Europe/Berlin"
    counts = []
    for headers in ({}, {"Prefer": "count=exact"}):
        for _ in range(6):
            await ada_client.get(url, headers=headers)
        before = trips.count
        await ada_client.get(url, headers=headers)
        counts.append(trips.count - before)

    assert counts == [1, 2]
