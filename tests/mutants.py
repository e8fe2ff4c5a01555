"""Faults to plant: each breaks one promise of the contract, in one place, while it lasts.

A test that watches the doors has to catch every one of them, or it watches nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, Final
from unittest.mock import patch

from api.errors import describe
from api.rate_limit.budget import Cost, Kind
from graphql_schema import connections
from graphql_schema import endpoint as http
from graphql_schema import errors as graphql_errors
from graphql_schema import tasks as graphql_tasks
from persistence import cursors, task_inputs, task_sql, tasks, validation
from persistence.errors import InvalidInput, NotFound, VersionConflict
from persistence.task_inputs import NewTask, Page, TaskChanges
from persistence.tasks import Deleted, TaskPage
from rest import preconditions as conditions
from rest import route as operation

Fault = AbstractContextManager[Any]

FAULTS: Final[dict[str, Callable[[], Fault]]] = {}


def fault(plant: Callable[[], Fault]) -> Callable[[], Fault]:
    """Keep a fault under its name, which says what is wrong."""
    FAULTS[plant.__name__] = plant
    return plant


# --- Validation ---------------------------------------------------------------------------


@fault
def graphql_does_not_trim_titles() -> Fault:
    def untrimmed(new: Any, data: Any) -> Any:
        return new.model_copy(update={"title": data["title"]}) if "title" in data else new

    return _parsed_otherwise(graphql_tasks, untrimmed)


@fault
def rest_keeps_a_blank_description() -> Fault:
    def kept(new: Any, data: Any) -> Any:
        is_described = isinstance(new, NewTask) and "description" in data
        return new.model_copy(update={"description": data["description"]}) if is_described else new

    return _parsed_otherwise(operation, kept)


@fault
def graphql_forgets_that_a_new_task_is_completed() -> Fault:
    def forgotten(new: Any, data: Any) -> Any:
        is_new = isinstance(new, NewTask)
        return new.model_copy(update={"completed": False}) if is_new else new

    return _parsed_otherwise(graphql_tasks, forgotten)


@fault
def rest_loses_an_unknown_member() -> Fault:
    def known(model: Any, data: Any, *rest: Any) -> Any:
        if model in (NewTask, TaskChanges) and isinstance(data, dict):
            data = {name: value for name, value in data.items() if name in model.model_fields}
        return validation.validate(model, data, *rest)

    return patch.object(operation, "validate", known)


@fault
def an_error_repeats_its_value_to_the_end() -> Fault:
    return patch.object(validation, "VALUE_LENGTH", 100_000)


@fault
def graphql_names_fields_as_rest_does() -> Fault:
    return patch.object(graphql_tasks, "_SPELLING", {})


@fault
def graphql_finds_no_task_where_an_id_is_garbage() -> Fault:
    def lenient(text: str, field: str) -> Any:
        try:
            return task_inputs.parse_task_id(text, field)
        except InvalidInput:
            raise NotFound("Task", text) from None

    return patch.object(graphql_tasks, "parse_task_id", lenient)


@fault
def graphql_words_an_error_otherwise() -> Fault:
    def terse(*said: Any) -> Any:
        try:
            return task_inputs.parse_task_id(*said)
        except InvalidInput as error:
            raise InvalidInput(
                [replace(found, message="No id") for found in error.errors]
            ) from None

    return patch.object(graphql_tasks, "parse_task_id", terse)


# --- Whose it is, and which version -------------------------------------------------------


@fault
def everyone_can_read_everything() -> Fault:
    return _rewritten("GET", r"tasks\.user_id = (\$\d+::VARCHAR)", r"\1 IS NOT NULL")


@fault
def everyone_can_delete_everything() -> Fault:
    return _rewritten("REMOVE_MANY", r"tasks\.user_id = (\$\d+::VARCHAR)", r"\1 IS NOT NULL")


@fault
def graphql_has_an_error_for_no_such_task() -> Fault:
    return patch.object(graphql_tasks, "NotFound", StopAsyncIteration)


@fault
def the_version_is_compared_before_the_task_is_found() -> Fault:
    def swapped(records: Any, kind: str, task_id: int, versions: Any) -> Any:
        if not records and versions is not None:
            raise VersionConflict(kind, 1)
        return _changed_row(records, kind, task_id, versions)

    return patch.object(tasks, "changed_row", swapped)


_changed_row: Final = tasks.changed_row


@fault
def rest_loses_updates() -> Fault:
    return patch.object(conditions, "_condition", lambda request, header: None)


@fault
def graphql_takes_version_0_for_none() -> Fault:
    return patch.object(
        graphql_tasks,
        "_versions",
        lambda expected: [expected] if isinstance(expected, int) and expected else None,
    )


@fault
def graphql_tells_another_detail_of_a_conflict() -> Fault:
    def otherwise(error: Exception) -> Any:
        problem = describe(error)
        is_conflict = isinstance(error, VersionConflict)
        return replace(problem, detail="The task was changed") if is_conflict else problem

    return patch.object(graphql_errors, "describe", otherwise)


# --- Changing -----------------------------------------------------------------------------


@fault
def a_change_of_nothing_raises_the_version() -> Fault:
    return _rewritten("CHANGE", r"IS DISTINCT FROM locked\.title", "IS NOT NULL")


@fault
def a_change_leaves_the_time_as_it_was() -> Fault:
    return _rewritten("CHANGE", r"greatest\(.*?, locked\.updated_at\)", "locked.updated_at")


@fault
def null_does_not_clear_a_description() -> Fault:
    def provided(changes: TaskChanges) -> dict[str, Any]:
        return {name: value for name, value in _provided(changes).items() if value is not None}

    return patch.object(TaskChanges, "provided", provided)


@fault
def what_is_absent_is_cleared() -> Fault:
    return patch.object(
        TaskChanges, "provided", lambda changes: {"description": None, **_provided(changes)}
    )


_provided: Final = TaskChanges.provided


# --- Deleting many ------------------------------------------------------------------------


@fault
def an_id_given_twice_is_answered_twice() -> Fault:
    def doubled(done: Deleted, ids: list[int]) -> Deleted:
        return Deleted(*([each for each in ids if each in part] for part in done))

    return _many_removed_otherwise(doubled)


@fault
def deletions_are_answered_in_the_order_of_ids() -> Fault:
    return _many_removed_otherwise(lambda done, ids: Deleted(*map(sorted, done)))


# --- Listing ------------------------------------------------------------------------------


@fault
def a_page_begins_one_task_late() -> Fault:
    late = {
        (completed, cursor): replace(found, sql=found.sql + " OFFSET 1") if cursor else found
        for (completed, cursor), found in task_sql.LIST.items()
    }
    return patch.object(task_sql, "LIST", late)


@fault
def a_page_loses_what_was_made_at_the_same_time() -> Fault:
    """The cursor's id does not count."""
    compared, instead = (
        "(tasks.created_at, tasks.id) <",
        f"(tasks.created_at, {validation.MAX_ID}) <",
    )
    alike = {
        key: replace(found, sql=found.sql.replace(compared, instead))
        for key, found in task_sql.LIST.items()
    }
    return patch.object(task_sql, "LIST", alike)


@fault
def a_page_has_one_task_too_many() -> Fault:
    async def leaky(db: Any, viewer: Any, page: Page) -> TaskPage:
        return await _list_page(db, viewer, page.model_copy(update={"limit": page.limit + 1}))

    return patch.object(tasks, "list_page", leaky)


@fault
def a_full_page_promises_another() -> Fault:
    async def promising(db: Any, viewer: Any, page: Page) -> TaskPage:
        found = await _list_page(db, viewer, page)
        return TaskPage(found.tasks, len(found.tasks) == page.limit)

    return patch.object(tasks, "list_page", promising)


_list_page: Final = tasks.list_page


@fault
def rest_filters_the_other_way_round() -> Fault:
    def inverted(page: Any, data: Any) -> Any:
        is_filtered = isinstance(page, Page) and page.completed is not None
        return page.model_copy(update={"completed": not page.completed}) if is_filtered else page

    return _parsed_otherwise(operation, inverted)


@fault
def the_filter_does_not_count() -> Fault:
    async def total(db: Any, viewer: Any, wanted: Any) -> int:
        return await _count(db, viewer, wanted.model_copy(update={"completed": None}))

    return patch.object(tasks, "count", total)


_count: Final = tasks.count


@fault
def graphql_says_that_every_page_is_the_first() -> Fault:
    return patch.object(connections.PageView, "has_previous_page", False)


@fault
def graphql_has_cursors_of_its_own() -> Fault:
    def turned(model: Any, data: Any, *rest: Any) -> Any:
        if model is not Page:
            return validation.validate(model, data, *rest)
        cursor = data.get("cursor")
        turned_back = cursor and cursors.decode_cursor(cursor[::-1]) and cursor[::-1]
        return validation.validate(model, data | {"cursor": turned_back}, *rest)

    class Both(AbstractContextManager[None]):
        def __enter__(self) -> None:
            self.patches = [
                patch.object(
                    connections, "encode_cursor", lambda it: cursors.encode_cursor(it)[::-1]
                ),
                patch.object(graphql_tasks, "validate", turned),
            ]
            for each in self.patches:
                each.start()

        def __exit__(self, *error: object) -> None:
            for each in self.patches:
                each.stop()

    return Both()


# --- The budget ---------------------------------------------------------------------------


@fault
def graphql_charges_one_less() -> Fault:
    cost = http._cost
    return patch.object(http, "_cost", lambda *said: Cost(cost(*said).kind, cost(*said).amount - 1))


@fault
def rest_takes_writes_from_the_reads() -> Fault:
    def mistaken(scope: Any, budget: Any, payer: str, cost: Cost) -> Any:
        return _charge(scope, budget, payer, Cost(Kind.READ, cost.amount))

    return patch.object(operation, "charge", mistaken)


_charge: Final = operation.charge


# --- How they are planted -----------------------------------------------------------------


def _parsed_otherwise(door: Any, spoil: Callable[[Any, Any], Any]) -> Fault:
    """What a door parsed, spoilt."""

    def validate(model: Any, data: Any, *rest: Any) -> Any:
        return spoil(validation.validate(model, data, *rest), data)

    return patch.object(door, "validate", validate)


def _many_removed_otherwise(spoil: Callable[[Deleted, list[int]], Deleted]) -> Fault:
    remove_many = tasks.remove_many

    async def spoilt(db: Any, viewer: Any, ids: Iterable[int]) -> Deleted:
        asked = list(ids)
        return spoil(await remove_many(db, viewer, asked), asked)

    return patch.object(tasks, "remove_many", spoilt)


def _rewritten(name: str, pattern: str, by: str) -> Fault:
    """A statement with a part of its SQL replaced."""
    known = getattr(task_sql, name)
    sql, times = re.subn(pattern, by, known.sql)
    assert times, f"{name} has changed: {known.sql}"
    return patch.object(task_sql, name, replace(known, sql=sql))
