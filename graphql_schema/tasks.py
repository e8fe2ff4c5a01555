"""Tasks: their query fields and mutation fields. Knows no SQL.

Mutation fields are nullable, so that the failure of one field does not hide the committed write
of another one.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, Final

import strawberry
from strawberry import ID, UNSET
from strawberry.utils.str_converters import to_camel_case

from graphql_schema.connections import page_arguments
from graphql_schema.context import Info
from graphql_schema.task_inputs import (
    CreateTaskInput,
    ExpectedVersion,
    Id,
    IdempotencyKey,
    Ids,
    TaskFilter,
    UpdateTaskInput,
    argument,
    members_of,
)
from graphql_schema.task_types import (
    DeleteTasksResult,
    Node,
    Task,
    TaskConnection,
    TaskPageView,
    UpdateTasksResult,
)
from persistence import task_inputs, tasks
from persistence.errors import NotFound
from persistence.task_inputs import (
    MAX_PAGE,
    BackwardPage,
    BulkCreate,
    EmptyablePage,
    EmptyableTrashPage,
    NewTask,
    TaskChanges,
    parse_task_id,
)
from persistence.task_orders import TaskOrder, position_of, trash_position_of
from persistence.validation import ErrorCollector

Members = dict[str, Any]
"""The members of an input that the client sent, by their names in Python."""

_FILTER_NAMES: Final = {
    name: f"filter.{to_camel_case(name)}" for name in task_inputs.TaskFilter.model_fields
}
"""The client's names of a filter's members."""


@strawberry.type
class TaskQueries:
    """The query fields of tasks."""

    @strawberry.field(
        graphql_type=Task | None, description="One of your tasks; null when you have no such task."
    )
    async def task(self, info: Info, id: Id) -> tasks.Task | None:
        """Read one task."""
        return await _find(info, id)

    @strawberry.field(
        graphql_type=Node | None,
        description="A task of yours, or null: tasks are the only nodes.",
    )
    async def node(self, info: Info, id: Id) -> tasks.Task | None:
        """Read one task, as clients do that know every object by its id."""
        return await _find(info, id)

    @strawberry.field(
        graphql_type=TaskConnection,
        description="Your tasks, newest first; the first 50 if neither `first` nor `last` is set.",
    )
    async def tasks(
        self,
        info: Info,
        first: Annotated[int | None, argument("How many, 0 to 1000, from the newest.")] = UNSET,
        after: Annotated[str | None, argument("Only tasks after this cursor.")] = UNSET,
        last: Annotated[int | None, argument("How many, 0 to 1000, from the oldest.")] = UNSET,
        before: Annotated[str | None, argument("Only tasks before this cursor.")] = UNSET,
        filter: Annotated[Members, members_of(TaskFilter | None, "Only these tasks.")] = UNSET,
        order_by: Annotated[
            TaskOrder | None, argument("How they are ordered.")
        ] = TaskOrder.CREATED_DESC,
    ) -> TaskPageView:
        """List tasks, one page at a time."""
        paging = page_arguments(
            first, after, last, before, max_page=info.context.max_page, most=MAX_PAGE
        )
        arguments = {"limit": paging.limit, "cursor": paging.cursor, "order": order_by}
        collector = ErrorCollector()
        collector.add(paging.errors)
        page = collector.validate(
            BackwardPage if paging.backward else EmptyablePage,
            arguments | (filter or {}),
            paging.client_names | _FILTER_NAMES,
        )
        collector.raise_errors()
        rows, has_more, token = await tasks.list_page(info.context.db, info.context.viewer, page)
        return TaskPageView(
            rows,
            has_more,
            page.cursor,
            page.backward,
            partial(position_of, order=page.ordered),
            token,
            ("tasks", repr(page.members())),
            partial(tasks.count, info.context.db, info.context.viewer, page),
        )

    @strawberry.field(
        graphql_type=TaskConnection,
        description="Your deleted tasks, last deleted first; the first 50 without `first`.",
    )
    async def trash(
        self,
        info: Info,
        first: Annotated[int | None, argument("How many, 0 to 1000.")] = UNSET,
        after: Annotated[str | None, argument("Only tasks after this cursor.")] = UNSET,
    ) -> TaskPageView:
        """List the trash, one page at a time."""
        paging = page_arguments(first, after, max_page=info.context.max_page, most=MAX_PAGE)
        arguments = {"limit": paging.limit, "cursor": paging.cursor}
        collector = ErrorCollector()
        collector.add(paging.errors)
        page = collector.validate(EmptyableTrashPage, arguments, paging.client_names)
        collector.raise_errors()
        context = info.context
        rows, has_more, token = await tasks.list_trash(context.db, context.viewer, page)
        return TaskPageView(
            [*rows],
            has_more,
            page.cursor,
            False,
            trash_position_of,
            token,
            "trash",
            partial(tasks.count_trash, context.db, context.viewer),
        )


async def _find(info: Info, task_id: str) -> tasks.Task | None:
    try:
        return await tasks.get(info.context.db, info.context.viewer, parse_task_id(task_id, "id"))
    except NotFound:
        return None


@strawberry.type
class TaskMutations:
    """The mutation fields of tasks."""

    @strawberry.mutation(graphql_type=Task | None, description="Add a task to your list.")
    async def create_task(
        self,
        info: Info,
        input: Annotated[Members, members_of(CreateTaskInput, "The new task.")],
        idempotency_key: IdempotencyKey = UNSET,
    ) -> tasks.Task:
        """Create one task."""
        context, collector = info.context, ErrorCollector()
        new = collector.validate(NewTask, input)
        key = collector.run(context.key, idempotency_key)
        collector.raise_errors()
        idempotency = context.idempotent_write(info, key, new.model_dump())
        return await tasks.create(context.db, context.viewer, new, idempotency)

    @strawberry.mutation(
        graphql_type=Task | None,
        description="Change one of your tasks; with `expectedVersion` only at that version.",
    )
    async def update_task(
        self,
        info: Info,
        id: Id,
        input: Annotated[Members, members_of(UpdateTaskInput, "The changes.")],
        expected_version: ExpectedVersion = UNSET,
        idempotency_key: IdempotencyKey = UNSET,
    ) -> tasks.Task:
        """Change one task."""
        context, collector, versions = info.context, ErrorCollector(), _versions(expected_version)
        changes = collector.validate(TaskChanges, input)
        task_id = collector.run(parse_task_id, id, "id")
        key = collector.run(context.key, idempotency_key)
        collector.raise_errors()
        idempotency = context.idempotent_write(info, key, task_id, changes.provided(), versions)
        return await tasks.change(
            context.db, context.viewer, task_id, changes, versions, idempotency
        )

    @strawberry.mutation(
        graphql_type=Task | None,
        description="Put one of your tasks into the trash, and see it as it was; with "
        "`expectedVersion` only at that version.",
    )
    async def delete_task(
        self,
        info: Info,
        id: Id,
        expected_version: ExpectedVersion = UNSET,
        idempotency_key: IdempotencyKey = UNSET,
    ) -> tasks.Task:
        """Delete one task."""
        context, collector, versions = info.context, ErrorCollector(), _versions(expected_version)
        task_id = collector.run(parse_task_id, id, "id")
        key = collector.run(context.key, idempotency_key)
        collector.raise_errors()
        idempotency = context.idempotent_write(info, key, task_id, versions)
        return await tasks.remove(context.db, context.viewer, task_id, versions, idempotency)

    @strawberry.mutation(
        graphql_type=list[Task] | None,
        description="Add 1 to 100 tasks to your list at once, all of them or none; they are in the "
        "order sent. Costs one write for every 20 begun.",
    )
    async def create_tasks(
        self,
        info: Info,
        inputs: Annotated[list[Members], members_of(list[CreateTaskInput], "The new tasks.")],
        idempotency_key: IdempotencyKey = UNSET,
    ) -> list[tasks.Task]:
        """Create many tasks."""
        context, collector = info.context, ErrorCollector()
        new = collector.validate(BulkCreate, {"tasks": inputs}, {"tasks": "inputs"})
        key = collector.run(context.key, idempotency_key)
        collector.raise_errors()
        idempotency = context.idempotent_write(info, key, [each.model_dump() for each in new.tasks])
        return await tasks.create_many(context.db, context.viewer, new.tasks, idempotency)

    @strawberry.mutation(
        graphql_type=UpdateTasksResult | None,
        description="Change 1 to 1000 of your tasks in the same way, at once; an id given twice "
        "counts once.",
    )
    async def update_tasks(
        self,
        info: Info,
        ids: Annotated[list[ID], argument("1 to 1000 ids of tasks.")],
        input: Annotated[Members, members_of(UpdateTaskInput, "The changes.")],
        idempotency_key: IdempotencyKey = UNSET,
    ) -> tasks.Updated:
        """Change many tasks."""
        context, collector = info.context, ErrorCollector()
        which = collector.validate(Ids, {"ids": ids})
        changes = collector.validate(TaskChanges, input)
        key = collector.run(context.key, idempotency_key)
        collector.raise_errors()
        idempotency = context.idempotent_write(info, key, which.ids, changes.provided())
        return await tasks.change_many(context.db, context.viewer, which.ids, changes, idempotency)

    @strawberry.mutation(
        graphql_type=DeleteTasksResult | None,
        description="Put 1 to 1000 of your tasks into the trash at once; an id given twice counts "
        "once.",
    )
    async def delete_tasks(
        self,
        info: Info,
        ids: Annotated[list[ID], argument("1 to 1000 ids of tasks.")],
        idempotency_key: IdempotencyKey = UNSET,
    ) -> tasks.Deleted:
        """Delete many tasks."""
        context, collector = info.context, ErrorCollector()
        deletion = collector.validate(Ids, {"ids": ids})
        key = collector.run(context.key, idempotency_key)
        collector.raise_errors()
        idempotency = context.idempotent_write(info, key, deletion.ids)
        return await tasks.remove_many(context.db, context.viewer, deletion.ids, idempotency)

    @strawberry.mutation(
        graphql_type=Task | None,
        description="Take one of your tasks out of the trash; it has its next version.",
    )
    async def restore_task(
        self, info: Info, id: Id, idempotency_key: IdempotencyKey = UNSET
    ) -> tasks.Task:
        """Restore one task."""
        context, collector = info.context, ErrorCollector()
        task_id = collector.run(parse_task_id, id, "id")
        key = collector.run(context.key, idempotency_key)
        collector.raise_errors()
        idempotency = context.idempotent_write(info, key, task_id)
        return await tasks.restore(context.db, context.viewer, task_id, idempotency)

    @strawberry.mutation(
        graphql_type=int | None,
        description="Delete all tasks in your trash for good, at once; how many they were.",
    )
    async def empty_trash(self, info: Info, idempotency_key: IdempotencyKey = UNSET) -> int:
        """Empty the trash."""
        context = info.context
        idempotency = context.idempotent_write(info, context.key(idempotency_key))
        return await tasks.empty_trash(context.db, context.viewer, idempotency)


def _versions(expected: int | None) -> Sequence[int] | None:
    return None if expected is None or expected is UNSET else [expected]
