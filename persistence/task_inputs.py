"""What a client may send about tasks: bodies, filters and pages. Knows no protocol."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final, NewType

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StringConstraints,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)

from persistence.bodies import Body, describe_changes, describe_read_only, nested
from persistence.cursors import (
    CURSOR_SCHEMA,
    TRASH_CURSOR_SCHEMA,
    Cursor,
    decode_cursor,
    invalid_cursor,
)
from persistence.due import (
    DUE_SCHEMA,
    MOMENT_SCHEMA,
    canonical_due,
    canonical_moment,
)
from persistence.field_types import (
    WITHOUT_NUL,
    json_integer,
    parse_id,
    text_boolean,
    text_integer,
)
from persistence.sync_tokens import SYNC_TOKEN_SCHEMA, SyncToken, SyncTokenText, decode_token
from persistence.tables import PRIORITIES, TAG_LENGTH
from persistence.task_fields import (
    READ_ONLY,
    TAG_PATTERN,
    TEXT_PATTERN,
    EditableFields,
    Priority,
    Tag,
    Title,
)
from persistence.task_orders import TaskOrder, order_of, position_values, trash_position_values
from persistence.zones import require_zone

MAX_PAGE: Final = 1000
"""The most tasks in one page, and the most ids in one bulk change or deletion."""

MAX_NEW: Final = 100
"""The most tasks that one request creates."""

MAX_VALUES: Final = 20
"""The most priorities, and the most tags, in a filter."""

QUERY_LENGTH: Final = 200
"""The longest search, in code points."""

TaskId = NewType("TaskId", int)
"""1 to ``persistence.field_types.MAX_ID``."""


class _TaskBody(Body):
    READ_ONLY: ClassVar[Mapping[str, Any]] = READ_ONLY


class NewTask(_TaskBody, EditableFields):
    """What a new task starts with."""

    model_config = ConfigDict(json_schema_extra=describe_read_only)


class TaskChanges(_TaskBody, EditableFields):
    """What to change about a task: what is absent stays, null clears (RFC 7396)."""

    model_config = ConfigDict(json_schema_extra=describe_changes)

    # Nothing is required here. No default is ever read: see ``provided()``.
    title: Title = ""


def _split(value: object) -> object:
    """The parts of a text that are separated by commas; a list stays as it is."""
    return value.split(",") if isinstance(value, str) else value


_MOMENT_SCHEMA: Final = WithJsonSchema(MOMENT_SCHEMA)
_DUE_SCHEMA: Final = WithJsonSchema(DUE_SCHEMA)
_BOOLEAN_SCHEMA: Final = WithJsonSchema({"type": "boolean"})

Flag = Annotated[StrictBool | None, BeforeValidator(text_boolean), _BOOLEAN_SCHEMA]
DueBound = Annotated[Annotated[str, AfterValidator(canonical_due)] | None, _DUE_SCHEMA]
Moment = Annotated[Annotated[str, AfterValidator(canonical_moment)] | None, _MOMENT_SCHEMA]


class TaskFilter(BaseModel):
    """Which tasks to list: those for which all that is given holds. Null is as if absent."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    completed: Annotated[
        Flag,
        Field(
            description="Only tasks that are done (`true`), or only those that are not (`false`)."
        ),
    ] = None
    priority: Annotated[
        Annotated[list[Priority], Field(min_length=1, max_length=MAX_VALUES)] | None,
        BeforeValidator(_split),
        Field(description="Only tasks with one of these priorities, separated by commas."),
        WithJsonSchema(
            {
                "type": "array",
                "items": {"type": "string", "enum": list(PRIORITIES)},
                "minItems": 1,
                "maxItems": MAX_VALUES,
            }
        ),
    ] = None
    tags: Annotated[
        Annotated[list[Tag], Field(min_length=1, max_length=MAX_VALUES)] | None,
        BeforeValidator(_split),
        Field(description="Only tasks with all of these tags, separated by commas; any case."),
        WithJsonSchema(
            {
                "type": "array",
                "items": {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": TAG_LENGTH,
                    "pattern": TAG_PATTERN,
                },
                "minItems": 1,
                "maxItems": MAX_VALUES,
            }
        ),
    ] = None
    has_due: Annotated[
        Flag,
        Field(description="Only tasks that are due some time (`true`), or never (`false`)."),
    ] = None
    due_from: Annotated[
        DueBound, Field(description="Only tasks that are due on this day, at this time, or later.")
    ] = None
    due_before: Annotated[
        DueBound, Field(description="Only tasks that are due before this day or time.")
    ] = None
    zone: Annotated[
        Annotated[str, AfterValidator(require_zone)] | None,
        Field(description="The IANA time zone in which a day begins, for `due_…`; default UTC."),
        WithJsonSchema({"type": "string", "examples": ["Europe/Berlin"]}),
    ] = None
    created_from: Annotated[
        Moment, Field(description="Only tasks that were made at this time or later.")
    ] = None
    created_before: Annotated[
        Moment, Field(description="Only tasks that were made before this time.")
    ] = None
    updated_from: Annotated[
        Moment, Field(description="Only tasks that were last changed at this time or later.")
    ] = None
    updated_before: Annotated[
        Moment, Field(description="Only tasks that were last changed before this time.")
    ] = None
    q: Annotated[
        Annotated[
            str,
            StringConstraints(strip_whitespace=True, min_length=1, max_length=QUERY_LENGTH),
            WITHOUT_NUL,
        ]
        | None,
        Field(
            description="Only tasks with every one of these words in title or description, "
            "anywhere in a word; case, accents and width do not matter."
        ),
        WithJsonSchema(
            {
                "type": "string",
                "minLength": 1,
                "maxLength": QUERY_LENGTH,
                "pattern": TEXT_PATTERN,
            }
        ),
    ] = None

    def members(self) -> dict[str, Any]:
        """The members of the filter that are not null, without those that a page adds."""
        provided = self.model_fields_set
        values = {name: getattr(self, name) for name in _FILTER_FIELDS if name in provided}
        return {name: value for name, value in values.items() if value is not None}


_FILTER_FIELDS: Final = tuple(TaskFilter.model_fields)

CONDITIONS: Final = TaskFilter.model_fields.keys() - {"zone"}
"""The members of a filter that are conditions by themselves."""


Limit = Annotated[
    int,
    # The bounds first: behind a validator they would not reach the JSON schema.
    Field(ge=1, le=MAX_PAGE, description="The most tasks of the response."),
    BeforeValidator(text_integer),
]
EmptyableLimit = Annotated[int, Field(ge=0, le=MAX_PAGE), BeforeValidator(text_integer)]


class Page(TaskFilter):
    """A part of the list: the first ``limit`` tasks that pass the filter, after ``cursor``."""

    order: Annotated[
        TaskOrder | None,
        Field(
            description="How they are ordered; a task that is never due comes last. "
            "Default `created_desc`."
        ),
        WithJsonSchema({"type": "string", "enum": [order.value for order in TaskOrder]}),
    ] = None
    limit: Limit = MAX_PAGE
    cursor: Annotated[
        Cursor | None,
        Field(description="From the `next` link of an earlier response in the same order."),
        CURSOR_SCHEMA,
    ] = None

    backward: ClassVar[bool] = False
    """Whether the page ends before the cursor, instead of starting after it."""

    @field_validator("cursor")
    @classmethod
    def _require_its_order(cls, cursor: str | None, others: ValidationInfo) -> str | None:
        if cursor is not None:
            position = decode_cursor(cursor)
            try:
                # If the order itself is invalid, the cursor may still be reported.
                is_known = "order" in others.data
                order = _ordered(others.data["order"]) if is_known else order_of(position)
                position_values(position, order)
            except OverflowError:
                raise invalid_cursor() from None
        return cursor

    @property
    def ordered(self) -> TaskOrder:
        """The order."""
        return _ordered(self.order)

    @property
    def position(self) -> dict[str, str | int] | None:
        """The position of the cursor, as a statement's parameters.

        ``None`` means the list's start, or its end if backward.
        """
        if self.cursor is None:
            return None
        return position_values(decode_cursor(self.cursor), self.ordered)


def _ordered(order: TaskOrder | None) -> TaskOrder:
    return order or TaskOrder.CREATED_DESC


class EmptyablePage(Page):
    """A page that may have no tasks at all, for a count alone."""

    limit: EmptyableLimit = MAX_PAGE


class BackwardPage(EmptyablePage):
    """The last ``limit`` tasks that pass the filter, before ``cursor``; newest first, too."""

    backward: ClassVar[bool] = True


TaskIds = Annotated[
    list[Annotated[int, BeforeValidator(json_integer)]],
    Field(
        min_length=1,
        max_length=MAX_PAGE,
        description="1 to 1000 ids; one given twice counts once.",
        examples=[[1, 2, 3]],
    ),
]


class TrashPage(BaseModel):
    """A part of the trash: the first ``limit`` tasks after ``cursor``, last deleted first."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    limit: Limit = MAX_PAGE
    cursor: Annotated[
        Cursor | None,
        Field(description="From the `next` link of an earlier response."),
        TRASH_CURSOR_SCHEMA,
    ] = None

    @field_validator("cursor")
    @classmethod
    def _require_its_order(cls, cursor: str | None) -> str | None:
        if cursor is not None:
            try:
                trash_position_values(decode_cursor(cursor))
            except OverflowError:
                raise invalid_cursor() from None
        return cursor

    @property
    def position(self) -> dict[str, str | int] | None:
        """The position of the cursor, as a statement's parameters; ``None`` means the start."""
        return None if self.cursor is None else trash_position_values(decode_cursor(self.cursor))


class EmptyableTrashPage(TrashPage):
    """A page that may have no tasks at all, for a count alone."""

    limit: EmptyableLimit = MAX_PAGE


class ChangesPage(BaseModel):
    """A part of the changes: the first ``limit`` tasks that changed after ``since``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    since: Annotated[
        SyncTokenText | None,
        Field(description="From an earlier response. Without it: all tasks that you have."),
        SYNC_TOKEN_SCHEMA,
    ] = None
    limit: Limit = MAX_PAGE

    @property
    def position(self) -> SyncToken | None:
        """The position of the token; ``None`` means before all tasks."""
        return decode_token(self.since) if self.since is not None else None


class BulkDelete(BaseModel):
    """Which tasks to delete at once."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task_ids: TaskIds


class BulkUpdate(BaseModel):
    """Which tasks to change at once, and what to change about each of them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task_ids: TaskIds
    changes: Annotated[
        TaskChanges, nested(TaskChanges), Field(description="What you leave out stays as it is.")
    ]


class BulkCreate(BaseModel):
    """Tasks to create at once: all of them, or none."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tasks: Annotated[
        list[Annotated[NewTask, nested(NewTask)]],
        Field(
            min_length=1,
            max_length=MAX_NEW,
            description="1 to 100 tasks, in this order.",
        ),
    ]


def parse_task_id(text: str, field: str = "task_id") -> TaskId:
    """A task's id from its text: see ``persistence.field_types.parse_id``."""
    return TaskId(parse_id(text, "Task", field))
