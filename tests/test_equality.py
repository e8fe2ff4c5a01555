"""The two doors are equal: Ada lives through REST, Grace the same life through GraphQL, and after
each of their steps both are where a model of the contract says."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Iterator
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
from tests import model
from tests.conftest import new_database, run_sql
from tests.lockstep import House, Lives
from tests.model import Operation
from tests.mutants import FAULTS
from tests.people import SESSION_TABLES

SEQUENCES: Final = int(os.environ.get("PROVE_SEQUENCES") or 200)
"""How many sequences to prove it on."""

FIRST_SEED: Final = int(os.environ.get("PROVE_SEED") or 0)
"""What the sequences are made from; the suite's are always the same."""

STEPS: Final = 15


@pytest.fixture(scope="module")
def house(postgres: Postgres) -> Iterator[House]:
    """A house with a database of its own, in which nobody else lives."""
    loop = asyncio.new_event_loop()
    run = loop.run_until_complete
    url = run(new_database(postgres, "equality"))
    upgrade(url)
    run(run_sql(url, SESSION_TABLES))
    opened = House.open(url, run)
    yield run(opened.__aenter__())
    run(opened.__aexit__(None, None, None))
    loop.close()


# --- What is sent -------------------------------------------------------------------------

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
WRONG: Final[list[Any]] = [0, 1, -1.5, 2**70, [], ["a"], {}, {"a": None}]

Strategy = st.SearchStrategy[Any]


def mostly(usual: Strategy, *rare: Strategy, of: int = 4) -> Strategy:
    """The first, but for once in so many times. (``one_of`` drops what is given to it twice.)"""
    return st.integers(1, of).flatmap(lambda die: usual if die < of else st.one_of(rare))


_usual: dict[str, Strategy] = {
    "title": st.sampled_from(TITLES[:4]),
    "description": st.sampled_from([None, *DESCRIPTIONS[:3]]),
    "completed": st.booleans(),
}
_nasty: dict[str, Strategy] = {
    "title": mostly(st.sampled_from(TITLES), st.text(max_size=4)),
    "description": mostly(st.sampled_from(DESCRIPTIONS), st.text(max_size=4)),
    "completed": st.booleans(),
}
_wrong: dict[str, Strategy] = {
    "title": st.sampled_from([*TITLES, None, True, *WRONG]),
    "description": st.sampled_from([*DESCRIPTIONS, False, *WRONG]),
    "completed": st.sampled_from([True, None, "true", "", *WRONG]),
    "titel": st.sampled_from([None, "water", *WRONG]),
}
_no_members = st.sampled_from([None, "title", 7, True, []])


def _members(*needed: str) -> Strategy:
    """Members with these among them, mostly right ones."""

    def some_of(members: dict[str, Strategy]) -> Strategy:
        optional = dict(members)
        return st.fixed_dictionaries(
            {name: optional.pop(name) for name in needed}, optional=optional
        )

    wrong = st.fixed_dictionaries({}, optional=_wrong)
    right = some_of(_usual) | some_of(_nasty)
    return mostly(right, some_of(_wrong), wrong, mostly(wrong, _no_members))


NEW: Final = _members("title")
CHANGES: Final = _members()

ODD_IDS: Final = [
    "0", "-1", "-0", "007", "4.0", "4.", "1e3", "abc", " 1", "1 ", "1\n", "+1", "1_000", "٣", "0x1",
    "null", "true", "é", "😀", "a\0", "%31", str(2**63 - 1), str(2**63), "-" + "9" * 30, "9" * 300,
    "x" * 300,
]  # fmt: skip

GONE: Final = 4
# The place, from the newest, among the tasks that there are; or one that is gone; or someone
# else's; or no task's.
_MINE = st.integers(0, 3)
WHICH: Final = mostly(
    _MINE, st.sampled_from([GONE, *map(str, model.STRANGERS)]), st.sampled_from(ODD_IDS)
)
# How many versions off it is; or a version that there cannot be.
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
QUERY: Final = st.fixed_dictionaries(
    {},
    optional={
        "limit": mostly(
            st.sampled_from([None, 1, 2, 3, 1000]),
            st.sampled_from([0, -1, 1001, 10**6, 2**31, "abc", "", "007", "1.0", 4.5, True]),
        ),
        "completed": mostly(st.booleans(), st.sampled_from([None, "yes", "", 1, "True"])),
        "cursor": CURSORS,
    },
)
# As above, in both forms in which JSON has integers; or numbers as they are.
_bulk_ids = mostly(
    _MINE | _MINE.map(float),
    st.sampled_from([GONE, *model.STRANGERS, 10**7, -1, 2**63 - 1, 2**63, 10**30]),
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


# --- What they do -------------------------------------------------------------------------


class Equality(RuleBasedStateMachine):
    """Random steps. What they are about is said in terms of what there is by then."""

    def __init__(self, house: House) -> None:
        super().__init__()
        self._house = house
        self._lives = Lives(house)
        self._model = self._lives.model
        self._steps = 0
        house.run(self._lives.begin())

    def teardown(self) -> None:
        self._house.lived += self._steps > 1

    @initialize(number=mostly(st.integers(0, 6), st.just(60), of=20))
    def inherit(self, number: int) -> None:
        self._house.run(self._lives.inherit(number))

    @rule(title=_usual["title"], completed=st.booleans())
    def add(self, title: str, completed: bool) -> None:
        self._do(model.Create({"title": title, "completed": completed}))

    @rule(members=NEW)
    def create(self, members: Any) -> None:
        self._do(model.Create(members))

    @rule(which=WHICH)
    def get(self, which: int | str) -> None:
        self._do(model.Get(self._id(which)))

    @rule(query=QUERY, elsewhere=st.booleans())
    def list_tasks(self, query: dict[str, Any], elsewhere: bool) -> None:
        place = query.get("cursor")
        if isinstance(place, int):
            # One of the latest that were answered.
            known = self._model.cursors[-4:]
            query = query | {"cursor": known[-1 - place % len(known)]}
        self._do(model.List(query, elsewhere))

    @rule(
        pages=st.integers(1, 4),
        completed=st.sampled_from([None, True, False]),
        doors=st.tuples(st.booleans(), st.booleans()),
    )
    def page_through(self, pages: int, completed: bool | None, doors: tuple[bool, bool]) -> None:
        """From one page to the next, at one door or by turns at both."""
        limit = max(len(self._model.tasks) // pages, 1)
        query: dict[str, Any] = {"limit": limit, "completed": completed}
        for elsewhere in itertools.cycle(doors):
            self._do(model.List(query, elsewhere))
            if self._model.next_cursor is None:
                break
            query = query | {"cursor": self._model.next_cursor}

    @rule(which=WHICH, changes=CHANGES, at=AT_VERSION)
    def change(self, which: int | str, changes: Any, at: int | str | None) -> None:
        task_id = self._id(which)
        self._do(model.Change(task_id, changes, self._version(task_id, at)))

    @rule(which=WHICH, changes=CHANGES, at=AT_VERSION)
    def send_back(self, which: int | str, changes: Any, at: int | str | None) -> None:
        """The whole task, as a frontend does, edited or not."""
        task_id = self._id(which)
        task = self._task(task_id)
        if task and isinstance(changes, dict):
            members = {name: getattr(task, name) for name in ("title", "description", "completed")}
            changes = members | changes
            self._do(model.Change(task_id, changes, self._version(task_id, at), whole=True))

    @rule(which=WHICH, at=AT_VERSION)
    def delete(self, which: int | str, at: int | str | None) -> None:
        task_id = self._id(which)
        self._do(model.Delete(task_id, self._version(task_id, at)))

    @rule(ids=BULK)
    def delete_many(self, ids: Any) -> None:
        few = isinstance(ids, list) and len(ids) < 10
        self._do(model.BulkDelete(list(map(self._bulk_id, ids)) if few else ids))

    def _do(self, asked: Operation) -> None:
        self._steps += 1
        self._house.run(self._lives.do(asked))

    def _id(self, which: int | str) -> str:
        """The id of the task at that place; or the text as it is."""
        return which if isinstance(which, str) else str(self._mine(which))

    def _bulk_id(self, which: Any) -> Any:
        is_place = type(which) in (int, float) and which in range(GONE + 1)
        return type(which)(self._mine(int(which))) if is_place else which

    def _mine(self, place: int) -> int:
        known = sorted(self._model.tasks, reverse=True)
        if place == GONE or not known:
            return max({*range(self._model.made + 1)} - {*known}, default=self._model.made)
        return known[place % len(known)]

    def _task(self, task_id: str) -> model.Task | None:
        by_id = {str(known): task for known, task in self._model.tasks.items()}
        return by_id.get(task_id)

    def _version(self, task_id: str, at: int | str | None) -> int | None:
        """So many versions off the task's own; or the number as it is."""
        if at is None or (isinstance(at, str) and at != "now"):
            return at and int(at)
        task = self._task(task_id)
        return (task.version if task else 1) + (0 if at == "now" else int(at))


# --- That it is so -------------------------------------------------------------------------

BATCH: Final = 10
"""Sequences of one Hypothesis run: so many it makes afresh, then it mostly varies those."""


def prove(house: House, sequences: int, first_seed: int, **options: Any) -> None:
    """Live that many lives; an ``AssertionError`` tells of the shortest that are not equal.

    Lives that ended right after they began don't count.
    """
    given = settings(
        max_examples=BATCH,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        **options,
    )
    enough = house.lived + sequences
    for number in itertools.count(first_seed):
        if house.lived >= enough:
            break
        try:
            run_state_machine_as_test(seed(number)(lambda: Equality(house)), settings=given)
        except AssertionError as error:
            error.add_note(f"Again: make prove PROVE_SEED={number}")
            raise


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("half", [0, 1])
def test_the_doors_are_equal(house: House, half: int) -> None:
    prove(house, SEQUENCES // 2, FIRST_SEED + half * 10**6)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_caught(house: House, fault: str) -> None:
    with FAULTS[fault](), pytest.raises(AssertionError):
        prove(house, 100, 0, phases=[Phase.generate], report_multiple_bugs=False)
