"""Faults to plant: each breaks one promise of the contract while it is planted.

A comparison of the APIs that misses one of them is too weak.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

from api.charges import Kind
from tests.operations import (
    EDITABLE,
    READ_ONLY,
    Api,
    BulkCreate,
    Change,
    Create,
    Delete,
    Get,
    List,
    ListChanges,
    ListTrash,
    Operation,
)
from tests.planting import (
    Fault,
    changed_costs,
    changed_deletions,
    changed_documents,
    changed_errors,
    changed_fingerprints,
    changed_histories,
    changed_keys,
    changed_operations,
    changed_page_info,
    changed_problems,
    changed_responses,
    changed_sql,
    graphql_error,
    not_found,
    problem_of,
    unvalidated,
)
from tests.surfaces import Response

FAULTS: Final[dict[str, Callable[[], Fault]]] = {}


def fault(plant: Callable[[], Fault]) -> Callable[[], Fault]:
    """Register a fault. Its name says what is wrong."""
    FAULTS[plant.__name__] = plant
    return plant


FAULTS_OF_KEYS: Final[dict[str, Callable[[], Fault]]] = {}


def fault_of_keys(plant: Callable[[], Fault]) -> Callable[[], Fault]:
    """Register a fault that only requests with an idempotency key show."""
    FAULTS_OF_KEYS[plant.__name__] = plant
    return plant


# --- Validation ---------------------------------------------------------------------------


@fault
def graphql_does_not_trim_titles() -> Fault:
    return unvalidated(Api.GRAPHQL, "title")


@fault
def rest_keeps_a_blank_description() -> Fault:
    return unvalidated(Api.REST, "description")


@fault
def graphql_forgets_that_a_new_task_is_completed() -> Fault:
    def edit(operation: Operation) -> Operation:
        match operation:
            case Create(dict(members)):
                return Create({name: members[name] for name in members if name != "completed"})
        return operation

    return changed_operations(edit, Api.GRAPHQL)


@fault
def rest_ignores_an_unknown_member() -> Fault:
    def edit(operation: Operation) -> Operation:
        match operation:
            case Create(dict(members)) | Change(_, dict(members)):
                known = {*EDITABLE, *READ_ONLY}
                kept = {name: value for name, value in members.items() if name in known}
                return replace(operation, members=kept)
        return operation

    return changed_operations(edit, Api.REST)


@fault
def an_error_repeats_its_value_to_the_end() -> Fault:
    def edit(operation: Operation, error: dict[str, Any]) -> dict[str, Any]:
        value = error["value"]
        is_cut = isinstance(value, str) and len(value) == 200
        return error | {"value": value * 2} if is_cut else error

    return changed_errors(edit, *Api)


@fault
def graphql_names_fields_as_rest_does() -> Fault:
    names = {"id": "task_id", "ids": "task_ids", "first": "limit", "after": "cursor"}
    return changed_errors(
        lambda operation, error: error | {"field": names.get(error["field"], error["field"])},
        Api.GRAPHQL,
    )


@fault
def graphql_words_an_error_otherwise() -> Fault:
    def edit(operation: Operation, error: dict[str, Any]) -> dict[str, Any]:
        return error | {"message": "No id"} if error["field"] == "id" else error

    return changed_errors(edit, Api.GRAPHQL)


@fault
def graphql_finds_no_task_where_an_id_is_garbage() -> Fault:
    def edit(operation: Operation, problem: dict[str, Any]) -> dict[str, Any]:
        fields = [error["field"] for error in problem.get("errors", ())]
        if fields != ["id"] or isinstance(operation, Get):
            return problem
        return not_found(operation.id)  # type: ignore[union-attr]  # it has an id

    return changed_problems(edit, Api.GRAPHQL)


# --- Owners and versions ------------------------------------------------------------------


@fault
def everyone_can_read_everything() -> Fault:
    return changed_sql(
        r"\w+\.user_id = (\$\d+\S*)(?= AND \S+ IS NULL AND tasks\.id = \$\d+\S*\s*$)",
        r"\1 IS NOT NULL",
    )


@fault
def everyone_can_delete_everything() -> Fault:
    return changed_sql(
        r"\w+\.user_id = (\$\d+\S*)(?= AND \S+ IS NULL AND tasks\.id = any)", r"\1 IS NOT NULL"
    )


@fault
def graphql_has_an_error_for_no_such_task() -> Fault:
    def edit(operation: Operation, document: Any) -> Any:
        is_null = isinstance(operation, Get) and document.get("data") == {"result": None}
        if not is_null or "errors" in document:
            return document
        problem = not_found(operation.id)  # type: ignore[union-attr]  # it has an id
        return document | {"errors": [graphql_error(problem)]}

    return changed_documents(edit, Api.GRAPHQL)


@fault
def the_version_is_compared_before_the_task_is_found() -> Fault:
    def edit(operation: Operation, problem: dict[str, Any]) -> dict[str, Any]:
        match operation, problem:
            case Change(version=int()) | Delete(version=int()), {"type": "not_found_error"}:
                return problem_of("precondition_failed", 412, "The task is at version 1")
        return problem

    return changed_problems(edit, *Api)


@fault
def rest_loses_updates() -> Fault:
    def edit(operation: Operation) -> Operation:
        is_conditional = isinstance(operation, Change | Delete)
        return replace(operation, version=None) if is_conditional else operation

    return changed_operations(edit, Api.REST)


@fault
def graphql_takes_version_0_for_none() -> Fault:
    def edit(operation: Operation) -> Operation:
        match operation:
            case Change(version=0) | Delete(version=0):
                return replace(operation, version=None)
        return operation

    return changed_operations(edit, Api.GRAPHQL)


@fault
def graphql_has_another_detail_of_a_conflict() -> Fault:
    def edit(operation: Operation, problem: dict[str, Any]) -> dict[str, Any]:
        is_conflict = problem["type"] == "precondition_failed"
        return problem | {"detail": "The task was changed"} if is_conflict else problem

    return changed_problems(edit, Api.GRAPHQL)


# --- Changes ------------------------------------------------------------------------------


@fault
def a_change_of_nothing_raises_the_version() -> Fault:
    return changed_sql(r"IS DISTINCT FROM \w+\.title", "IS NOT NULL")


@fault
def a_change_leaves_the_time_as_it_was() -> Fault:
    return changed_sql(r"greatest\([^,]*, (\w+\.updated_at)\)", r"\1")


@fault
def null_does_not_clear_a_description() -> Fault:
    def edit(operation: Operation) -> Operation:
        match operation:
            case Change(members={"description": None, **others}):
                return replace(operation, members=others)
        return operation

    return changed_operations(edit, *Api)


@fault
def null_does_not_clear_what_is_due() -> Fault:
    def edit(operation: Operation) -> Operation:
        match operation:
            case Change(members={"due": None, **others}):
                return replace(operation, members=others)
        return operation

    return changed_operations(edit, *Api)


@fault
def a_moment_is_stored_as_its_day() -> Fault:
    return changed_sql(
        r"CAST\((\$\d+::VARCHAR) AS TIMESTAMP WITH TIME ZONE\)",
        r"date_trunc('day', \1::timestamptz)",
    )


@fault
def priorities_are_stored_the_other_way_round() -> Fault:
    return changed_sql(r"= 'low'\) THEN 1", "= 'low') THEN 2")


@fault
def a_change_of_tags_alone_is_no_change() -> Fault:
    return changed_sql(
        r"OR CASE WHEN \S+ THEN \S+ ELSE locked\.tags END IS DISTINCT FROM locked\.tags", ""
    )


@fault
def a_task_that_is_completed_again_has_a_new_time() -> Fault:
    return changed_sql(
        r"CASE WHEN locked\.completed THEN locked\.completed_at ELSE (\S+) END", r"\1"
    )


@fault
def an_absent_description_is_cleared() -> Fault:
    def edit(operation: Operation) -> Operation:
        match operation:
            case Change(members=dict(members)):
                return replace(operation, members={"description": None} | members)
        return operation

    return changed_operations(edit, *Api)


# --- Bulk deletions -----------------------------------------------------------------------


@fault
def an_id_sent_twice_is_answered_twice() -> Fault:
    def edit(operation: Operation, ids: list[int]) -> list[int]:
        sent = [int(each) for each in operation.ids]  # type: ignore[union-attr]  # it has ids
        return [each for each in sent if each in ids]

    return changed_deletions(edit)


@fault
def deletions_are_answered_in_the_order_of_ids() -> Fault:
    return changed_deletions(lambda operation, ids: sorted(ids))


# --- Many at once -------------------------------------------------------------------------


@fault
def tasks_are_created_in_another_order() -> Fault:
    return changed_sql(r"(ORDER BY \S+\.position)(?= RETURNING)", r"\1 DESC")


@fault
def what_is_long_among_new_tasks_is_left_out() -> Fault:
    def edit(operation: Operation) -> Operation:
        match operation:
            case BulkCreate(list(tasks)):
                kept = [task for task in tasks if len(str(task)) < 200]
                return BulkCreate(kept or tasks)
        return operation

    return changed_operations(edit, *Api)


@fault
def an_error_among_many_has_no_place() -> Fault:
    def edit(operation: Operation, error: dict[str, Any]) -> dict[str, Any]:
        is_one_of_many = isinstance(operation, BulkCreate) and error["field"].count(".") == 2
        return error | {"field": error["field"].rpartition(".")[2]} if is_one_of_many else error

    return changed_errors(edit, *Api)


@fault
def everyone_can_change_everything() -> Fault:
    return changed_sql(
        r"\w+\.user_id = (\$\d+\S*)(?= AND \S+ IS NULL AND tasks\.id = any.* SET title)",
        r"\1 IS NOT NULL",
    )


@fault
def a_deleted_task_is_changed_among_many() -> Fault:
    return changed_sql(r" AND tasks\.deleted_at IS NULL(?= AND tasks\.id = any.* SET title)", "")


@fault
def what_is_unchanged_among_many_is_not_found() -> Fault:
    return changed_sql(r"(= any.* SET title.*) UNION ALL .*(\) AS anon_\d+\s*)$", r"\1\2")


@fault
def rest_creates_many_for_one_write() -> Fault:
    return changed_costs(lambda cost: cost._replace(amount=1), Api.REST)


@fault
def graphql_creates_many_for_one_write() -> Fault:
    return changed_costs(lambda cost: cost._replace(amount=1), Api.GRAPHQL)


# --- The trash ----------------------------------------------------------------------------


@fault
def a_deleted_task_is_found() -> Fault:
    return changed_sql(r" AND tasks\.deleted_at IS NULL(?= AND tasks\.id = \$\d+\S*\s*$)", "")


@fault
def a_deleted_task_is_listed() -> Fault:
    return changed_sql(r" AND tasks\.deleted_at IS NULL(?=.* ORDER BY tasks\.created_at)", "")


@fault
def a_deleted_task_is_counted() -> Fault:
    return changed_sql(r"(SELECT count\(\*\).*) AND tasks\.deleted_at IS NULL(?=.*$)", r"\1")


@fault
def a_deleted_task_can_be_changed() -> Fault:
    return changed_sql(r" AND tasks\.deleted_at IS NULL(?=.* SET title)", "")


@fault
def a_deleted_task_can_be_deleted_again() -> Fault:
    return changed_sql(r" AND tasks\.deleted_at IS NULL(?=.* FOR UPDATE.* SET deleted_at)", "")


@fault
def a_task_that_lives_can_be_restored() -> Fault:
    return changed_sql(r"( SET .*deleted_at=NULL.*) AND tasks\.deleted_at IS NOT NULL", r"\1")


@fault
def everyone_can_restore_everything() -> Fault:
    return changed_sql(
        r"( SET \S.*deleted_at=NULL.*)tasks\.user_id = (\$\d+\S*)", r"\1\2 IS NOT NULL"
    )


@fault
def a_restored_task_has_its_old_version() -> Fault:
    return changed_sql(r"version=\(?tasks\.version \+ 1\)?", "version=tasks.version")


@fault
def the_trash_is_in_the_order_of_creation() -> Fault:
    return changed_sql(r"ORDER BY tasks\.deleted_at DESC", "ORDER BY tasks.created_at DESC")


@fault
def a_page_of_the_trash_loses_tasks_of_the_same_time() -> Fault:
    return changed_sql(r"\(tasks\.deleted_at, tasks\.id\) <", f"(tasks.deleted_at, {2**63 - 1}) <")


@fault
def emptying_the_trash_takes_what_lives() -> Fault:
    return changed_sql(r" AND tasks\.deleted_at IS NOT NULL(?=.*DELETE FROM tasks)", "")


@fault
def emptying_the_trash_empties_everybodys() -> Fault:
    return changed_sql(r"tasks\.user_id = (\S+)(?=.*DELETE FROM tasks)", r"\1 IS NOT NULL")


@fault
def a_cursor_of_the_trash_begins_it_anew() -> Fault:
    def edit(operation: Operation) -> Operation:
        match operation:
            case ListTrash({"cursor": str(cursor), **others}) if len(cursor) == 23:
                return replace(operation, query=others)
        return operation

    return changed_operations(edit, Api.GRAPHQL)


# --- Lists --------------------------------------------------------------------------------


@fault
def a_page_begins_one_task_late() -> Fault:
    return changed_sql(r"(\(tasks\.created_at, tasks\.id\) < .* LIMIT [^\s)]+)", r"\1 OFFSET 1")


@fault
def a_page_loses_tasks_of_the_same_time() -> Fault:
    """The id in the cursor does not count."""
    return changed_sql(r"\(tasks\.created_at, tasks\.id\) <", f"(tasks.created_at, {2**63 - 1}) <")


@fault
def a_page_has_one_task_too_many() -> Fault:
    def edit(operation: Operation) -> Operation:
        match operation:
            case List({"limit": int(limit)} as query) if 1 <= limit < 1000:
                return replace(operation, query=query | {"limit": limit + 1})
        return operation

    return changed_operations(edit, *Api)


@fault
def graphql_promises_a_page_after_the_last_one() -> Fault:
    return changed_page_info(lambda page: {"hasNextPage": bool(page["nodes"])})


@fault
def rest_has_no_link_to_the_next_page() -> Fault:
    def edit(operation: Operation, response: Response) -> Response:
        headers = {name: text for name, text in response.headers.items() if name != "link"}
        return response._replace(headers=headers)

    return changed_responses(edit, Api.REST)


@fault
def rest_filters_the_other_way_round() -> Fault:
    def edit(operation: Operation) -> Operation:
        match operation:
            case List({"completed": bool(completed)} as query):
                return replace(operation, query=query | {"completed": not completed})
        return operation

    return changed_operations(edit, Api.REST)


@fault
def the_total_ignores_the_filter() -> Fault:
    return changed_sql(
        r"(SELECT count\(.*)(\btasks\.completed = \$\d+\S*?)(\)?\s*)$", r"\1(\2 OR true)\3"
    )


@fault
def a_filter_forgets_that_a_day_ends() -> Fault:
    return changed_sql(r"(tasks\.due_day) < (?=\(SELECT)", r"\1 <= ")


@fault
def a_filter_takes_every_day_for_one_in_utc() -> Fault:
    def edit(operation: Operation) -> Operation:
        match operation:
            case List({"zone": str()} as query):
                return replace(operation, query=query | {"zone": "UTC"})
        return operation

    return changed_operations(edit, *Api)


@fault
def one_of_the_tags_is_enough() -> Fault:
    return changed_sql(r"tasks\.tag_keys @>", "tasks.tag_keys &&")


@fault
def one_of_the_words_is_enough() -> Fault:
    return changed_sql(r"(search_text LIKE) all", r"\1 any")


@fault
def a_search_misses_what_the_release_before_wrote() -> Fault:
    return changed_sql(
        r"tasks\.search_text IS NULL OR tasks\.search_version != tasks\.version OR"
        r"(?= tasks\.search_text LIKE)",
        "",
    )


@fault
def a_task_that_is_never_due_comes_first() -> Fault:
    return changed_sql(r"'infinity'", "'-infinity'")


@fault
def equal_priorities_are_in_the_other_order() -> Fault:
    return changed_sql(r"(tasks\.priority DESC, tasks\.id) DESC", r"\1 ASC")


@fault
def a_cursor_of_another_order_begins_the_list_anew() -> Fault:
    def edit(operation: Operation) -> Operation:
        match operation:
            case List({"cursor": str(cursor), **others}) if len(cursor) == 23:
                is_of_default = others.get("order") in (None, "created_desc")
                return replace(operation, query=others) if is_of_default else operation
        return operation

    return changed_operations(edit, *Api)


@fault
def graphql_says_that_every_page_is_the_first() -> Fault:
    return changed_page_info(lambda page: {"hasPreviousPage": False})


@fault
@contextmanager
def graphql_has_cursors_of_its_own() -> Iterator[None]:
    own: set[str] = set()

    def turn(cursor: str | None) -> str | None:
        if cursor is not None:
            own.add(cursor[::-1])
        return cursor and cursor[::-1]

    def accept(operation: Operation) -> Operation:
        match operation:
            case List({"cursor": str(cursor)} as query) if cursor in own:
                return replace(operation, query=query | {"cursor": cursor[::-1]})
        return operation

    def answer(page: dict[str, Any]) -> dict[str, Any]:
        for edge in page["edges"]:
            edge["cursor"] = turn(edge["cursor"])
        info = page["pageInfo"]
        return {name: turn(info[name]) for name in ("startCursor", "endCursor")}

    with changed_operations(accept, Api.GRAPHQL, required=False), changed_page_info(answer):
        yield


# --- What changed -------------------------------------------------------------------------


@fault
def a_change_is_missed() -> Fault:
    return changed_sql(r"\(tasks\.seq, tasks\.id\) >", "(tasks.seq - 1, tasks.id) >")


@fault
def a_deletion_is_missed() -> Fault:
    return changed_sql(
        r"(tasks\.deleted_at IS NULL OR tasks\.seq) > (\$\d+[^\s)]*)", r"\1 < 0 * \2"
    )


@fault
def changes_of_one_statement_are_cut_at_a_page() -> Fault:
    return changed_sql(r"\(tasks\.seq, tasks\.id\) >", f"(tasks.seq, {2**63 - 1}) >")


@fault
def changes_end_where_a_page_does() -> Fault:
    return changed_sql(r"(ORDER BY tasks\.seq, tasks\.id\s+LIMIT [^\s)]+)", r"\1 - 1")


@fault
def changes_are_in_the_order_of_the_ids() -> Fault:
    return changed_sql(r"ORDER BY tasks\.seq, tasks\.id", "ORDER BY tasks.id")


@fault
def a_page_of_changes_is_too_short() -> Fault:
    def edit(operation: Operation) -> Operation:
        match operation:
            case ListChanges({"limit": int(limit)} as query) if limit > 1:
                return ListChanges(query | {"limit": limit - 1})
        return operation

    return changed_operations(edit, Api.GRAPHQL)


@fault
def a_token_of_another_person_is_taken() -> Fault:
    return changed_histories(lambda user_id: "")


# --- Idempotency keys ---------------------------------------------------------------------


@fault_of_keys
def rest_ignores_keys() -> Fault:
    return changed_keys(lambda key: None, Api.REST)


@fault_of_keys
def graphql_takes_quotes_for_a_part_of_a_key() -> Fault:
    return changed_keys(lambda key: f'"{key}"' if key[0] == '"' else key, Api.GRAPHQL)


@fault_of_keys
def keys_belong_to_everybody() -> Fault:
    return changed_sql(
        r"idempotency_keys\.user_id = \S+ AND"
        r"( idempotency_keys\.key = \S+ AND idempotency_keys\.expires_at > now\(\))",
        r"\1 LIMIT 1",
    )


@fault_of_keys
def the_outcome_is_not_recorded() -> Fault:
    return changed_sql(r"(now\(\) \+ \$\d+\S*) \* interval '1 hour'", r"\1 * interval '0 hour'")


@fault_of_keys
def only_what_was_done_is_recorded() -> Fault:
    return changed_sql(
        r"(FROM expired\) >= 0)(?= RETURNING)", r"\1 AND EXISTS (SELECT FROM result)"
    )


@fault_of_keys
def another_request_gets_the_first_response() -> Fault:
    return changed_fingerprints(lambda parts: parts[: 3 if parts[0] == "rest" else 2])


@fault_of_keys
def a_fingerprint_ignores_the_version() -> Fault:
    def edit(parts: tuple[Any, ...]) -> tuple[Any, ...]:
        is_conditional = len(parts) > 3 and not isinstance(parts[-1], dict)
        return parts[:-1] if is_conditional and "bulk-" not in str(parts[2]) else parts

    return changed_fingerprints(edit)


@fault_of_keys
def put_and_patch_are_the_same_request() -> Fault:
    return changed_fingerprints(
        lambda parts: tuple("PATCH" if part == "PUT" else part for part in parts)
    )


@fault_of_keys
def the_protocols_share_their_fingerprints() -> Fault:
    names = {"createTask": ("POST", "/tasks"), "deleteTasks": ("POST", "/tasks/bulk-delete")}

    def edit(parts: tuple[Any, ...]) -> tuple[Any, ...]:
        if parts[0] == "graphql" and parts[1] in names:
            return ("rest", *names[parts[1]], *parts[2:])
        return parts

    return changed_fingerprints(edit)


@fault_of_keys
def a_replay_is_a_new_response() -> Fault:
    """Nobody is told that it is one."""

    def edit(operation: Operation, response: Response) -> Response:
        names = {"idempotency-replayed"}
        headers = {name: text for name, text in response.headers.items() if name not in names}
        return response._replace(headers=headers)

    return changed_responses(edit, Api.REST)


@fault_of_keys
def a_replay_has_the_version_of_now() -> Fault:
    version = "(SELECT version FROM tasks WHERE id = (outcome->0->>'id')::bigint)"
    replaced = (
        "coalesce(regexp_replace(idempotency_keys.outcome::text, '\"version\":[0-9]+',"
        f" '\"version\":' || {version}), idempotency_keys.outcome::text)::json AS outcome"
    )
    return changed_sql(
        r"(AS fingerprint, )idempotency_keys\.outcome AS outcome", lambda match: match[1] + replaced
    )


# --- The budget ---------------------------------------------------------------------------


@fault
def graphql_charges_one_less() -> Fault:
    return changed_costs(lambda cost: cost._replace(amount=cost.amount - 1), Api.GRAPHQL)


@fault
def rest_takes_writes_from_the_reads() -> Fault:
    return changed_costs(lambda cost: cost._replace(kind=Kind.READ), Api.REST)
