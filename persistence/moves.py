"""Moving our tables into a schema of their own, with everything that belongs to them."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, text

from persistence.migrations import MIGRATION_LOCK, CannotMigrate, adopt_revision, create_engine
from persistence.schema_names import qualified
from persistence.tables import FUNCTIONS, OWN_TABLES, VERSION_TABLE

NAMES: Final = (*(table.name for table in OWN_TABLES), VERSION_TABLE)
"""The tables of an installation."""


async def move_tables(url: str, schema: str) -> bool:
    """Move our tables from where connections find them into a schema, in one transaction.

    PostgreSQL keeps what belongs to a table: rows, indexes, constraints, the sequence of the ids,
    triggers, rights, and the views on it. The roles that may use the tables, and only they, also
    get the right to look into the schema.

    Args:
        schema: it is created if it does not exist.

    Returns:
        whether there was something to do: false if they are there already.

    Raises:
        CannotMigrate: there are no tables of ours to move, the schema has others of these names,
            or this role may not let the other roles look into it. Nothing is changed.
    """
    engine = create_engine(url)
    try:
        async with engine.begin() as connection:
            return await connection.run_sync(_move, schema)
    finally:
        await engine.dispose()


def _move(connection: Connection, schema: str) -> bool:
    # Another move, or a migration, comes first; then this one sees what it has done.
    connection.execute(text(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"))
    # Statements queue behind a lock that is waited for.
    connection.execute(text("SET LOCAL lock_timeout = '2s'"))
    if not _has_to_move(connection, schema):
        return False
    # No instance of an earlier release runs that would look there.
    adopt_revision(connection)
    if not connection.scalar(text("SELECT to_regnamespace(:name) IS NOT NULL"), {"name": schema}):
        connection.execute(text(f"CREATE SCHEMA {schema}"))
    # Before the tables are locked, and in order, so that readers of either wait for a moment only.
    _let_users_in(connection, schema)
    for name in NAMES:
        connection.execute(text(f"ALTER TABLE {name} SET SCHEMA {schema}"))
    for name, has_path in FUNCTIONS.items():
        connection.execute(text(f"ALTER FUNCTION {name} SET SCHEMA {schema}"))
        if has_path:
            path = f"pg_catalog, {schema}, pg_temp"
            connection.execute(text(f"ALTER FUNCTION {schema}.{name} SET search_path = {path}"))
    return True


def _has_to_move(connection: Connection, schema: str) -> bool:
    is_to_move = []
    for name in NAMES:
        here, there = connection.execute(
            text("SELECT to_regclass(:here)::oid, to_regclass(:there)::oid"),
            {"here": name, "there": qualified(name, schema)},
        ).one()
        if there and here not in (there, None):
            raise CannotMigrate(
                f"There is a table {name} in the schema {schema}, and another one outside of it."
            )
        if not here and not there:
            raise CannotMigrate(
                f"There is no table {name} to move. A new installation is made by twofold migrate. "
                "One of an earlier release has to be migrated first, without DATABASE_SCHEMA."
            )
        is_to_move.append(not there)
    schemas = connection.scalars(text(_SCHEMAS), {"names": list(NAMES)}).all()
    if len(schemas) > 1 or len(set(is_to_move)) > 1:
        raise CannotMigrate(
            f"The tables {', '.join(NAMES)} are in different schemas: one of them is not ours."
        )
    return is_to_move[0]


_SCHEMAS: Final = """
    SELECT DISTINCT relnamespace FROM unnest(CAST(:names AS text[])) name
    JOIN pg_class ON pg_class.oid = to_regclass(name)
"""
"""The schemas in which connections find our tables."""


def _let_users_in(connection: Connection, schema: str) -> None:
    query = text(_SHUT_OUT)
    values = {"schema": schema, "names": list(NAMES)}
    for role in connection.scalars(query, values).all():
        connection.execute(text(f"GRANT USAGE ON SCHEMA {schema} TO {role}"))
    # PostgreSQL only warns where this role may not grant it.
    if roles := connection.scalars(query, values).all():
        raise CannotMigrate(
            f"Roles that use the tables may not use the schema {schema}. As its owner: "
            f"GRANT USAGE ON SCHEMA {schema} TO {', '.join(roles)}"
        )


_SHUT_OUT: Final = """
    WITH tables AS (
        SELECT c.oid, c.relowner, c.relacl FROM pg_class c
        JOIN unnest(CAST(:names AS text[])) name ON c.oid = to_regclass(name)
    ), users AS (
        SELECT relowner AS role FROM tables
        UNION SELECT (aclexplode(relacl)).grantee FROM tables
        UNION SELECT (aclexplode(attacl)).grantee FROM tables JOIN pg_attribute ON attrelid = oid
    )
    SELECT CASE role WHEN 0 THEN 'PUBLIC' ELSE role::regrole::text END FROM users
    WHERE NOT has_schema_privilege(role, CAST(:schema AS text), 'USAGE')
    ORDER BY 1
"""
"""The roles that have a right to our tables and none to the schema, as SQL writes them."""
