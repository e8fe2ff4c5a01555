"""What the statements of every resource share: compiled once, typed, one round trip. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from sqlalchemy import (
    ARRAY,
    CTE,
    BigInteger,
    BindParameter,
    Cast,
    ClauseElement,
    Column,
    ColumnElement,
    Integer,
    Label,
    Select,
    SelectBase,
    String,
    Text,
    bindparam,
    cast,
    exists,
    false,
    func,
    literal_column,
    or_,
    select,
    true,
    union_all,
)
from sqlalchemy.dialects.postgresql.asyncpg import dialect as asyncpg_dialect
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.types import TypeEngine

from persistence.errors import NotFound, VersionConflict


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL for asyncpg, compiled once.

    Attributes:
        sql: with numbered parameters (``$1``).
        parameters: the parameters' names, in the order of their numbers.
        typed: whether the SQL itself fixes the type of every parameter and column
            (``$1::text``), whatever the tables' columns become. Behind PgBouncer this saves a
            round trip (``persistence.connection``).
        columns: how many columns the result of a SELECT has; 0 for other SQL.
        source: what the SQL was compiled from; ``None`` if it was written by hand.
    """

    sql: str
    parameters: tuple[str, ...]
    typed: bool = False
    columns: int = 0
    source: ClauseElement | None = field(default=None, compare=False, repr=False)
    _by_schema: dict[str, Statement] = field(default_factory=dict, compare=False, repr=False)

    def in_schema(self, schema: str | None) -> Statement:
        """The same statement about our tables in this schema; compiled once.

        Args:
            schema: ``None`` for the schema that the connection finds by itself. A statement that
                was not compiled from Core names no table of ours, and is returned as it is.
        """
        if schema is None or self.source is None:
            return self
        statement = self._by_schema.get(schema)
        if statement is None:
            statement = self._by_schema[schema] = compile_statement(self.source, schema)
        return statement


def compile_statement(source: ClauseElement, schema: str | None = None) -> Statement:
    """Compile a Core statement whose every value is a named ``bindparam``, every column a cast.

    SQLAlchemy's execution costs 190 µs of CPU a statement beyond the driver's 35. Its language,
    its tables and its pool cost next to nothing once the SQL is written. So a statement is
    written in Core, compiled at import, and run by asyncpg itself, outside a transaction:
    PostgreSQL commits each by itself, in one round trip.

    Args:
        schema: of our tables. It is written into the SQL, because a pooler in transaction mode
            lets no connection have a search path of its own.
    """
    compiled = source.compile(
        dialect=asyncpg_dialect(),  # type: ignore[no-untyped-call]
        **_in_schema(schema),
    )
    assert isinstance(compiled, SQLCompiler)
    parameters = tuple(compiled.positiontup or ())
    columns = len(source.exported_columns) if isinstance(source, SelectBase) else 0
    return Statement(str(compiled), parameters, typed=True, columns=columns, source=source)


def _in_schema(schema: str | None) -> dict[str, Any]:
    if schema is None:
        return {}
    return {"schema_translate_map": {None: schema}, "render_schema_translate": True}


class Record(Protocol):
    """A row: its values in the order of the statement's columns, and by their names."""

    def __getitem__(self, key: str | int | slice) -> Any: ...

    def __iter__(self) -> Any: ...


# --- Typed columns and parameters ---


def parameter(name: str, column: Column[Any]) -> BindParameter[Any]:
    """A parameter of a column's type, called ``name``."""
    return bindparam(name, type_=sql_type(column))


def sql_type(column: Column[Any]) -> TypeEngine[Any]:
    """The type of a column's values in statements."""
    # Text without its length: a cast to varchar(200) would cut.
    return Text() if isinstance(column.type, String) else column.type


def integer_list(name: str, kind: Integer) -> Cast[Any]:
    """A parameter that is a list of integers; its value comes from ``as_text``.

    asyncpg knows lists of text from the start. About lists of any other type it asks the server
    on each new connection: four round trips, or six where the server compiles (``jit``).
    """
    return cast(bindparam(name, type_=ARRAY(Text)), ARRAY(kind))


def as_text(numbers: Sequence[int] | None) -> list[str] | None:
    """The value of an ``integer_list`` parameter."""
    return None if numbers is None else [str(number) for number in numbers]


# --- Changing rows, and one at a version ---


def locked_rows(
    columns: Sequence[Label[Any]],
    *conditions: ColumnElement[bool],
    order: ColumnElement[Any] | None = None,
) -> CTE:
    """The rows that meet the conditions, in their latest version, locked until the statement ends.

    Because of the lock the rest of the statement sees what this part saw: the version that is
    compared is the version that is changed, whoever else writes (READ COMMITTED re-reads the
    row).

    Args:
        order: in which they are locked, if they may be several.
    """
    rows = select(*columns).where(*conditions).with_for_update()
    return (rows if order is None else rows.order_by(order)).cte("locked")


def all_ids(locked: CTE) -> Cast[Any]:
    """The column ``id`` of all these rows as one array, for ``func.any``.

    PostgreSQL reads a locking part row by row, as the statement needs the rows. An array it makes
    of all of them, so that every row is locked before the statement changes the first one.
    """
    return cast(select(func.array_agg(locked.c.id)).scalar_subquery(), ARRAY(BigInteger))


def at_version(locked: CTE) -> ColumnElement[bool]:
    """Whether the row is at one of the versions in the parameter ``versions``; null means any."""
    versions = integer_list("versions", Integer())
    return or_(versions.is_(None), locked.c.version == func.any(versions))


def differ(values: Mapping[str, ColumnElement[Any]], locked: CTE) -> ColumnElement[bool]:
    """Whether one of the values differs from the row's; two nulls are the same."""
    return or_(*(value.is_distinct_from(locked.c[name]) for name, value in values.items()))


def done_or_locked(done: CTE, locked: CTE, names: Sequence[str]) -> Select[tuple[object, ...]]:
    """For each locked row: true and the row that was changed, or false and the locked row.

    No row at all means that there was no row to lock. ``changed_row`` reads the result.
    """
    is_done = exists(select(literal_column("1")).where(done.c.id == locked.c.id))
    return select(
        union_all(
            select(true().label("done"), *(done.c[name] for name in names)),
            select(false(), *(locked.c[name] for name in names)).where(~is_done),
        ).subquery()
    )


def one_row(records: Sequence[Record], kind: str, row_id: int) -> Record:
    """The record.

    Args:
        kind: the resource, for the error: ``"Task"``.

    Raises:
        NotFound: there is none.
    """
    if not records:
        raise NotFound(kind, row_id)
    return records[0]


def changed_row(
    records: Sequence[Record], kind: str, row_id: int, versions: Sequence[int] | None
) -> list[Any]:
    """The values of the row after a statement that ends with ``done_or_locked``.

    Args:
        kind: the resource, for the errors: ``"Task"``.
        versions: the versions at which the client allows the change; ``None`` means any.

    Raises:
        NotFound: there is no such row. This is decided before the version.
        VersionConflict: the row is at another version.
    """
    record = one_row(records, kind, row_id)
    done, *values = record
    version = record["version"]
    if not done and versions is not None and version not in versions:
        raise VersionConflict(kind, version)
    return values
