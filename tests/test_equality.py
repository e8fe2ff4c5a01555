"""REST and GraphQL are equal: random sequences of operations through both, and a model of the
contract that says what each has to answer and to store."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)

from persistence.embedded.postgres import Postgres
from persistence.migrations import upgrade
from tests import model_refusals, model_results, operations
from tests.conftest import new_database, run_sql
from tests.lockstep.comparison import Comparison
from tests.lockstep.running_app import RunningApp
from tests.mutants import FAULTS, FAULTS_OF_KEYS
from tests.operations import EDITABLE, Api, Operation
from tests.people import SESSION_TABLES
from tests.planting import NotPlanted, changed_operations, changed_sql

SEQUENCES: Final = int(os.environ.get("PROVE_SEQUENCES") or 200)
"""How many sequences are compared."""

FIRST_SEED: Final = int(os.environ.get("PROVE_SEED") or 0)
"""The first seed of the sequences. By default it is always the same."""

STEPS: Final = 15


@pytest.fixture(scope="module")
def running_app(postgres: Postgres) -> Iterator[RunningApp]:
    """The app on a database of its own."""
    loop = asyncio.new_event_loop()
    run = loop.run_until_complete
    url = run(new_database(postgres, "equality"))
    upgrade(url)
    run(run_sql(url, SESSION_TABLES))
    running = RunningApp.on(url, run)
    yield run(running.__aenter__())
    run(running.__aexit__(None, None, None))
    loop.close()


# --- Inputs -------------------------------------------------------------------------------

TITLES: Final = [
    "water the plants", " water the plants\n", "water", "Water", "é", "", " ", "\u2003\u3000",
    "\ufeff", "\x1c", "\x85", "\u200b", "\xa0x\u202f", "a" * 200, "a" * 201, f" {'a' * 200}\t",
    "😀" * 200, "😀" * 201, "e\u0301" * 100, "e\u0301" * 101, "e\u0301", "\u202eאבג",
    "\U0001d518\U0001d52b", "👩\u200d🚀", "a\0b", "\0", "\0" * 201, "\ud800", "\U0010ffff",
    "a\r\nb", "'; DROP TABLE tasks; --", "\\u0000", '"', "null", "7", "\ufdd0", "ß" * 200,
]  # fmt: skip
DESCRIPTIONS: Final = [
    "little", " little ", " ", "", "\u2029\u205f", "\ufeff", "\x1f", "d" * 1000, "d" * 1001,
    " " * 1000, " " * 1001, "😀" * 1000, "😀" * 1001, "x\0", "\0" * 1001, "\udc00", "line\nline\n",
    "a\u0301" * 500, "\u202eאבג", "# not *html*", "\x7f",
]  # fmt: skip
DUES: Final = [
    "2025-12-10", "2025-12-10T12:30:00Z", "2025-12-10T13:30:00.000000+01:00",
    "2025-12-10t12:30:00z", "2025-12-10T12:30:00.123456789Z", "2025-12-10T12:30:00.1-23:59",
    "0001-01-01", "9999-12-31", "9999-12-31T23:59:59.999999Z", "0001-01-01T00:00:00Z", "0000-01-01",
    "0001-01-01T00:00:00+00:01", "9999-12-31T23:59:59-00:01", "2025-02-29", "2024-02-29",
    "2025-12-10T12:30:00", "2025-12-10T12:30:00.5", "2025-12-10 12:30:00Z", "2025-12-10T12:30Z",
    "2025-12-10T24:00:00Z", "2025-12-10T12:30:60Z", "2025-12-10T12:30:00+24:00", "20251210", "",
    "2025-12-10T12:30:00+01", "2025-12-10\0", "٢٠٢٥-12-10", "today", "infinity", "\ud800",
    "2025-12-10T12:30:00Z\n", "2025-344", "2025-W50-3", "2025-12-10T12:30:00.Z", "-001-01-01",
]  # fmt: skip
PRIORITIES: Final = ["none", "low", "medium", "high"]
TAGS: Final[list[Any]] = [
    [], ["home"], ["home", "Home", "garden"], [" garden ", "home"], ["Straße", "STRASSE"],
    ["a" * 50], ["😀" * 50], ["a" * 51], [f" {'a' * 50}\t"], [""], [" "], ["a,b"], ["\0"],
    ["\ud800"], [*map(str, range(20))], [*map(str, range(21))], ["a"] * 21, ["é", "e\u0301"],
    ["İ", "i\u0307"], ['"', "\\", "{}", "NULL"],
]  # fmt: skip
WRONG: Final[list[Any]] = [0, 1, -1.5, 2**70, [], ["a"], {}, {"a": None}]

Strategy = st.SearchStrategy[Any]


def mostly(usual: Strategy, *rare: Strategy, of: int = 4) -> Strategy:
    """The first strategy, but one time in ``of`` one of the others.

    (``one_of`` cannot weight its strategies: it drops duplicates.)
    """
    return st.integers(1, of).flatmap(lambda die: usual if die < of else st.one_of(rare))


_usual: dict[str, Strategy] = {
    "title": st.sampled_from(TITLES[:4]),
    "description": st.sampled_from([None, *DESCRIPTIONS[:3]]),
    "completed": st.booleans(),
    "due": st.sampled_from([None, *DUES[:3]]),
    "priority": st.sampled_from(PRIORITIES),
    "tags": st.sampled_from(TAGS[:4]),
}
_nasty: dict[str, Strategy] = {
    "title": mostly(st.sampled_from(TITLES), st.text(max_size=4)),
    "description": mostly(st.sampled_from(DESCRIPTIONS), st.text(max_size=4)),
    "completed": st.booleans(),
    "due": st.sampled_from([None, *DUES]),
    "priority": st.sampled_from(PRIORITIES),
    "tags": st.sampled_from(TAGS),
}
_wrong: dict[str, Strategy] = {
    "title": st.sampled_from([*TITLES, None, True, *WRONG]),
    "description": st.sampled_from([*DESCRIPTIONS, False, *WRONG]),
    "completed": st.sampled_from([True, None, "true", "", *WRONG]),
    "due": st.sampled_from([*DUES, None, True, *WRONG]),
    "priority": st.sampled_from([*PRIORITIES, None, True, "", "HIGH", "High", "urgent", *WRONG]),
    "tags": st.sampled_from([*TAGS, None, {}, {"a": None}, [None], [["a"]], [1, "a"], [True]]),
    "titel": st.sampled_from([None, "water", *WRONG]),
}
_no_members = st.sampled_from([None, "title", 7, True, []])


def _members(*required: str) -> Strategy:
    """Mostly valid members; these are always among them."""

    def some_of(members: dict[str, Strategy]) -> Strategy:
        optional = dict(members)
        return st.fixed_dictionaries(
            {name: optional.pop(name) for name in required}, optional=optional
        )

    wrong = st.fixed_dictionaries({}, optional=_wrong)
    right = some_of(_usual) | some_of(_nasty)
    return mostly(right, some_of(_wrong), wrong, mostly(wrong, _no_members))


_one_member = st.one_of([st.fixed_dictionaries({name: _usual[name]}) for name in _usual])
NEW: Final = _members("title")
CHANGES: Final = _members()

ODD_IDS: Final = [
    "0", "-1", "-0", "007", "4.0", "4.", "1e3", "abc", " 1", "1 ", "1\n", "+1", "1_000", "٣", "0x1",
    "null", "true", "é", "😀", "a\0", "%31", str(2**63 - 1), str(2**63), "-" + "9" * 30, "9" * 300,
    "x" * 300,
]  # fmt: skip

DELETED: Final = 4
# An index among the existing tasks, newest first; or the id of a deleted task, of another user's
# task, or of none.
_MINE = st.integers(0, 3)
WHICH: Final = mostly(
    _MINE,
    st.sampled_from([DELETED, *map(str, model_results.FOREIGN_IDS)]),
    st.sampled_from(ODD_IDS),
)
# The difference from the current version, as a number; or a version, as text.
AT_VERSION: Final = mostly(
    st.sampled_from([None, "now"]),
    st.sampled_from([1, -1, -2, "0", "-1", str(2**31 - 1), str(2**31), str(10**30)]),
    of=3,
)

CURSORS: Final = mostly(
    st.integers(0, 3),
    st.sampled_from(
        [
            None, "", "A", "abc", "!" * 22, "A" * 23, "A" * 21 + "B", "B" + "A" * 21, "=" * 4, "é",
            "😀", "a\0", "x" * 300, "AAAAAAAAAAAAAAAAAAAAAA==",
        ]
    ),
)  # fmt: skip
_BOUNDS: Final = [
    "2025-12-09", "2025-12-10", "2025-12-11", "2025-12-10T00:00:00Z", "2025-12-10T12:30:00+01:00",
    "2025-12-09T23:30:00Z", "0001-01-01", "9999-12-31", "9999-12-31T23:59:59.999999Z",
]  # fmt: skip
_PAST, _FUTURE = "2020-01-01T00:00:00Z", "2100-01-01T01:00:00+01:00"
_TIMES: Final = mostly(
    st.sampled_from([_PAST, _FUTURE, None]),
    st.sampled_from(["2020-01-01", "2020-01-01T00:00:00", "then"]),
)
ORDER: Final = st.sampled_from(model_refusals.ORDERS)
FILTER: Final[dict[str, Strategy]] = {
    "completed": st.booleans(),
    "priority": st.lists(st.sampled_from(PRIORITIES), min_size=1, max_size=3),
    "tags": st.sampled_from([["home"], ["HOME", " garden "], ["strasse"], ["none"]]),
    "has_due": st.booleans(),
    "due_from": st.sampled_from(_BOUNDS),
    "due_before": st.sampled_from(_BOUNDS),
    "zone": st.sampled_from(
        ["UTC", "Europe/Berlin", "America/New_York", "Etc/GMT-14", "Etc/GMT+12", "Asia/Kathmandu"]
    ),
    "q": st.sampled_from(
        [
            "import",
            "WATER",
            "plant w",
            "water import",
            "w p",
            "lit",
            "e",
            "é",
            "\uff57at",
            "%",
            "_",
            "\\",
            "zz",
            "a a",
        ]
    ),
    "created_from": st.sampled_from([_PAST, _FUTURE]),
    "updated_before": st.sampled_from([_PAST, _FUTURE]),
}
FEW_CONDITIONS: Final = st.lists(st.sampled_from(sorted(FILTER)), max_size=2, unique=True).flatmap(
    lambda names: st.fixed_dictionaries({name: FILTER[name] for name in names})
)
QUERY: Final = st.fixed_dictionaries(
    {},
    optional={
        "order": mostly(ORDER, st.sampled_from([None, "due_desc", "CREATED_DESC"])),
        "priority": mostly(FILTER["priority"], st.sampled_from([None, ["high", "urgent"]])),
        "tags": mostly(FILTER["tags"], st.sampled_from([None, ["home", " "], ["a" * 51, "\0"]])),
        "has_due": mostly(st.booleans(), st.sampled_from([None, "yes"])),
        "due_from": mostly(FILTER["due_from"], st.sampled_from([None, *DUES[10:20]])),
        "due_before": mostly(FILTER["due_before"], st.sampled_from([None, *DUES[10:20]])),
        "zone": mostly(FILTER["zone"], st.sampled_from([None, "Mars/Base", "utc", "../UTC"])),
        "created_from": _TIMES,
        "created_before": _TIMES,
        "updated_from": _TIMES,
        "updated_before": _TIMES,
        "q": mostly(FILTER["q"], st.sampled_from([None, " ", "q" * 201, "\0", "😀" * 200])),
        "limit": mostly(
            st.sampled_from([None, 1, 2, 3, 1000]),
            st.sampled_from([0, -1, 1001, 10**6, 2**31, "abc", "", "007", "1.0", 4.5, True]),
        ),
        "completed": mostly(st.booleans(), st.sampled_from([None, "yes", "", 1, "True"])),
        "cursor": CURSORS,
    },
)
TRASH_QUERY: Final = st.fixed_dictionaries(
    {},
    optional={
        "limit": mostly(st.sampled_from([None, 1, 2, 1000]), st.sampled_from([0, -1, 1001, "abc"])),
        "cursor": mostly(st.integers(0, 2), st.sampled_from([None, "", "A", "d", "d" * 23])),
    },
)
# Indexes as above, in both forms in which JSON has integers; or numbers that are not ids.
_bulk_ids = mostly(
    _MINE | _MINE.map(float),
    st.sampled_from([DELETED, *model_results.FOREIGN_IDS, 10**7, -1, 2**63 - 1, 2**63, 10**30]),
    of=2,
)
_odd_bulk_ids = st.sampled_from(
    ["abc", "007", "4.0", "", "٣", None, True, {}, [], 4.5, -0.5, 0.0, -1.0, 1e19]
)
BULK: Final = mostly(
    st.lists(_bulk_ids, min_size=1, max_size=3),
    st.lists(mostly(_bulk_ids, _odd_bulk_ids, of=2), min_size=1, max_size=3),
    st.sampled_from(
        [[], [0] * 1000, [0] * 1001, list(range(-1000, 0)), list(range(-1000, 1)), None, True, {}]
    ),
    of=3,
)


MANY: Final = mostly(
    st.lists(NEW, min_size=1, max_size=3),
    st.sampled_from([[], None, True, {}, [None], [{"title": "water"}] * 21]),
    of=6,
)


# --- Operations ---------------------------------------------------------------------------


class Sequence(RuleBasedStateMachine):
    """Operations whose inputs refer to the tasks that exist at that time."""

    def __init__(self, app: RunningApp) -> None:
        super().__init__()
        self._app = app
        self._comparison = Comparison(app)
        self._model = self._comparison.model
        self._steps = 0
        app.run(self._comparison.start())

    def teardown(self) -> None:
        self._app.sequences += self._steps > 1

    def _do(self, operation: Operation, swapped: bool = False, key: str | None = None) -> None:
        self._steps += 1
        self._app.run(self._comparison.do(operation, swapped, key))

    def _id(self, which: int | str) -> str:
        """The id of the task at that index; a text is returned as it is."""
        return which if isinstance(which, str) else str(self._id_at(which))

    def _id_in_the_trash(self, which: int | str) -> str:
        """The same of a deleted task, last deleted first; of none if there is none."""
        ids = sorted(self._model.trash, key=self._model.deletions.__getitem__, reverse=True)
        return str(ids[which % len(ids)]) if isinstance(which, int) and ids else self._id(which)

    def _bulk_id(self, which: Any) -> Any:
        is_index = type(which) in (int, float) and which in range(DELETED + 1)
        return type(which)(self._id_at(int(which))) if is_index else which

    def _id_at(self, index: int) -> int:
        ids = sorted(self._model.tasks, reverse=True)
        if index == DELETED or not ids:
            created = self._model.created
            return max({*range(created + 1)} - {*ids}, default=created)
        return ids[index % len(ids)]

    def _task(self, task_id: str) -> model_results.Task | None:
        by_id = {str(each): task for each, task in self._model.tasks.items()}
        return by_id.get(task_id)

    def _version(self, task_id: str, at: int | str | None) -> int | None:
        """The version at this difference from the task's own; a text is the version itself."""
        if at is None or (isinstance(at, str) and at != "now"):
            return at and int(at)
        task = self._task(task_id)
        return (task.version if task else 1) + (0 if at == "now" else int(at))


class Equality(Sequence):
    """Random operations."""

    @initialize(number=mostly(st.integers(0, 6), st.just(60), of=20))
    def start_with_tasks(self, number: int) -> None:
        self._app.run(self._comparison.add(number))

    @rule(title=_usual["title"], completed=st.booleans())
    def add(self, title: str, completed: bool) -> None:
        self._do(operations.Create({"title": title, "completed": completed}))

    @rule(members=NEW)
    def create(self, members: Any) -> None:
        self._do(operations.Create(members))

    @rule(which=WHICH)
    def get(self, which: int | str) -> None:
        self._do(operations.Get(self._id(which)))

    @rule(query=QUERY, swapped=st.booleans())
    def list_tasks(self, query: dict[str, Any], swapped: bool) -> None:
        index = query.get("cursor")
        if isinstance(index, int):
            latest = self._model.cursors[-4:]
            query = query | {"cursor": latest[-1 - index % len(latest)]}
        self._do(operations.List(query), swapped)

    @rule(
        pages=st.integers(1, 4),
        order=ORDER,
        only=FEW_CONDITIONS,
        swaps=st.tuples(st.booleans(), st.booleans()),
    )
    def page_through(
        self, pages: int, order: str, only: dict[str, Any], swaps: tuple[bool, bool]
    ) -> None:
        """Read page after page, through one API or through both in turn."""
        limit = max(len(self._model.tasks) // pages, 1)
        query: dict[str, Any] = {"limit": limit, "order": order, **only}
        for swapped in itertools.cycle(swaps):
            self._do(operations.List(query), swapped)
            if self._model.next_cursor is None:
                break
            query = query | {"cursor": self._model.next_cursor}

    @rule(place=st.integers(0, 1), zone=FILTER["zone"], swapped=st.booleans())
    def list_what_is_due_on_a_day(self, place: int, zone: str, swapped: bool) -> None:
        query = {"due_from": _BOUNDS[place], "due_before": _BOUNDS[place + 1], "zone": zone}
        self._do(operations.List(query), swapped)

    @rule(index=st.integers(0, 3), order=ORDER)
    def continue_in_an_order(self, index: int, order: str) -> None:
        """It may be another one than the cursor's."""
        latest = self._model.cursors[-4:]
        cursor = latest[-1 - index % len(latest)]
        self._do(operations.List({"order": order, "cursor": cursor}))

    @rule(which=WHICH, changes=CHANGES, at=AT_VERSION)
    def change(self, which: int | str, changes: Any, at: int | str | None) -> None:
        task_id = self._id(which)
        self._do(operations.Change(task_id, changes, self._version(task_id, at)))

    @rule(which=_MINE, member=_one_member)
    def edit(self, which: int, member: dict[str, Any]) -> None:
        self._do(operations.Change(self._id(which), member))

    @rule(which=WHICH, changes=CHANGES, at=AT_VERSION)
    def send_back(self, which: int | str, changes: Any, at: int | str | None) -> None:
        """Send the whole task back, edited or not, as a frontend does."""
        task_id = self._id(which)
        task = self._task(task_id)
        if task and isinstance(changes, dict):
            members = {name: getattr(task, name) for name in EDITABLE}
            changes = members | changes
            self._do(operations.Change(task_id, changes, self._version(task_id, at), whole=True))

    @rule(which=WHICH, at=AT_VERSION)
    def delete(self, which: int | str, at: int | str | None) -> None:
        task_id = self._id(which)
        self._do(operations.Delete(task_id, self._version(task_id, at)))

    @rule(which=WHICH)
    def restore(self, which: int | str) -> None:
        self._do(operations.Restore(self._id_in_the_trash(which)))

    @rule(query=TRASH_QUERY, swapped=st.booleans())
    def list_trash(self, query: dict[str, Any], swapped: bool) -> None:
        index = query.get("cursor")
        if isinstance(index, int):
            latest = self._model.trash_cursors[-3:] or [None]
            query = query | {"cursor": latest[-1 - index % len(latest)]}
        self._do(operations.ListTrash(query), swapped)

    @rule(number=st.integers(0, 3), limit=st.integers(1, 2), swapped=st.booleans())
    def page_through_the_trash(self, number: int, limit: int, swapped: bool) -> None:
        """Delete so many tasks together, and read page after page."""
        if number:
            self._do(operations.BulkDelete([self._id_at(index) for index in range(number)]))
        after = None
        while True:
            query = {"limit": limit, "cursor": after}
            self._do(operations.ListTrash(query), swapped)
            after = self._model.next_trash_cursor
            if after is None:
                break

    @rule(at_last=st.integers(0, 2))
    def empty_trash(self, at_last: int) -> None:
        if not at_last:
            self._do(operations.EmptyTrash())

    @rule(tasks=MANY)
    def create_many(self, tasks: Any) -> None:
        self._do(operations.BulkCreate(tasks))

    @rule(ids=BULK, changes=CHANGES)
    def change_many(self, ids: Any, changes: Any) -> None:
        few = isinstance(ids, list) and len(ids) < 10
        self._do(operations.BulkUpdate(list(map(self._bulk_id, ids)) if few else ids, changes))

    @rule(ids=BULK)
    def delete_many(self, ids: Any) -> None:
        few = isinstance(ids, list) and len(ids) < 10
        self._do(operations.BulkDelete(list(map(self._bulk_id, ids)) if few else ids))

    @rule()
    def present_anothers_token(self) -> None:
        self._steps += 1
        self._app.run(self._comparison.present_anothers_token())


KEYS: Final = st.sampled_from([*"abcdefgh", '"a"', '"b"', "A ~", "a" * 255])
_few_changes = st.fixed_dictionaries({}, optional=_usual)
_some_new = st.fixed_dictionaries({"title": _usual["title"]}, optional={"completed": st.booleans()})


class Retries(Sequence):
    """Random writes with idempotency keys, sent again, and almost sent again."""

    @initialize()
    def start_with_tasks(self) -> None:
        self._app.run(self._comparison.add(2))

    @rule(members=st.fixed_dictionaries({"title": _usual["title"]}), key=KEYS)
    def create(self, members: Any, key: str) -> None:
        self._do(operations.Create(members), key=key)

    @rule(members=NEW, key=KEYS)
    def create_of_anything(self, members: Any, key: str) -> None:
        self._do(operations.Create(members), key=key)

    @rule(which=_MINE | WHICH, changes=_few_changes, at=AT_VERSION, whole=st.booleans(), key=KEYS)
    def change(
        self, which: int | str, changes: Any, at: int | str | None, whole: bool, key: str
    ) -> None:
        task_id = self._id(which)
        version = self._version(task_id, at)
        # REST would use the key up for this one, and GraphQL refuse it before.
        if (version or 0) <= model_results.MAX_INT:
            self._do(operations.Change(task_id, changes, version, whole), key=key)

    @rule(which=_MINE, key=KEYS)
    def delete(self, which: int, key: str) -> None:
        self._do(operations.Delete(self._id(which)), key=key)

    @rule(tasks=st.lists(_some_new, min_size=1, max_size=3), key=KEYS)
    def create_many(self, tasks: Any, key: str) -> None:
        self._do(operations.BulkCreate(tasks), key=key)

    @rule(ids=st.lists(_bulk_ids, min_size=1, max_size=3), changes=_few_changes, key=KEYS)
    def change_many(self, ids: Any, changes: Any, key: str) -> None:
        self._do(operations.BulkUpdate(list(map(self._bulk_id, ids)), changes), key=key)

    @rule(which=_MINE, key=KEYS)
    def restore(self, which: int, key: str) -> None:
        self._do(operations.Restore(self._id_in_the_trash(which)), key=key)

    @rule(key=KEYS)
    def empty_trash(self, key: str) -> None:
        self._do(operations.EmptyTrash(), key=key)

    @rule(ids=st.lists(_bulk_ids, min_size=1, max_size=3), key=KEYS)
    def delete_many(self, ids: Any, key: str) -> None:
        self._do(operations.BulkDelete(list(map(self._bulk_id, ids))), key=key)

    @rule(which=_MINE, completed=st.booleans())
    def change_without_a_key(self, which: int, completed: bool) -> None:
        self._do(operations.Change(self._id(which), {"completed": completed}))

    @rule(title=_usual["title"], key=KEYS, completed=st.booleans())
    def overtake(self, title: str, key: str, completed: bool) -> None:
        """Change a task before the request that created it is repeated."""
        self._do(operations.Create({"title": title}), key=key)
        self.change_without_a_key(0, completed)
        self.repeat(0)

    @rule(index=st.integers(0, 2))
    def repeat(self, index: int) -> None:
        self._steps += 1
        self._app.run(self._comparison.repeat(index))

    @rule(index=st.integers(0, 1), how=st.sampled_from(["version", "method", "protocol"]))
    def vary(self, index: int, how: str) -> None:
        self._steps += 1
        self._app.run(self._comparison.vary(index, how))


# --- Claims -------------------------------------------------------------------------------

BATCH: Final = 10
"""Sequences in one run of Hypothesis. It generates the first ones, and mostly varies them later."""


def prove(
    app: RunningApp,
    sequences: int,
    first_seed: int,
    kind: type[Sequence] = Equality,
    **options: Any,
) -> None:
    """Compare the APIs on so many sequences. Those of a single operation do not count.

    Raises:
        AssertionError: they differ. Its text has the shortest sequence on which they do.
    """
    configuration = settings(
        max_examples=BATCH,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        **options,
    )
    enough = app.sequences + sequences
    for number in itertools.count(first_seed):
        if app.sequences >= enough:
            break
        machine = seed(number)(lambda: kind(app))
        try:
            run_state_machine_as_test(machine, settings=configuration)
        except Exception as error:
            error.add_note(f"To repeat it: make prove PROVE_SEED={number}")
            raise


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("half", [0, 1])
def test_rest_and_graphql_are_equal(running_app: RunningApp, half: int) -> None:
    prove(running_app, SEQUENCES // 2, FIRST_SEED + half * 10**6)


@pytest.mark.timeout(1800)
def test_rest_and_graphql_are_equal_with_keys(running_app: RunningApp) -> None:
    prove(running_app, SEQUENCES // 4, FIRST_SEED + 2 * 10**6, Retries)


@pytest.mark.slow
@pytest.mark.parametrize("fault", [*FAULTS, *FAULTS_OF_KEYS])
def test_a_fault_is_caught(running_app: RunningApp, fault: str) -> None:
    kind = Retries if fault in FAULTS_OF_KEYS else Equality
    plant = (FAULTS | FAULTS_OF_KEYS)[fault]
    with plant(), pytest.raises(AssertionError):
        prove(running_app, 300, 0, kind, phases=[Phase.generate], report_multiple_bugs=False)


def test_a_fault_without_an_effect_is_an_error(running_app: RunningApp) -> None:
    with pytest.raises(NotPlanted, match="changed nothing"), changed_sql("no such", ""):
        prove(running_app, 1, 0)


def test_a_fault_that_fails_itself_is_an_error(running_app: RunningApp) -> None:
    def edit(operation: Operation) -> Operation:
        raise AttributeError("a name that is gone")

    with (
        pytest.raises(NotPlanted, match="a name that is gone"),
        changed_operations(edit, *Api),
        suppress(AttributeError),
    ):
        prove(running_app, 1, 0)
