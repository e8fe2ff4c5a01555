"""Which errors of the driver mean an unavailable database, and which a defect of ours."""

from __future__ import annotations

import asyncpg
import pytest

from persistence import database
from persistence.database import Database
from persistence.errors import Unavailable
from persistence.pool import Pool
from persistence.sql import Statement
from tests.conftest import run_sql
from tests.database.connections import ONE, Taking, backend_of

NUMBER = Statement("SELECT $1::int", ("number",))


@pytest.mark.parametrize("number", ["none", 2**31, []])
async def test_a_wrong_argument_is_our_defect_and_costs_no_connection(
    pool: Pool, number: object, taking: Taking
) -> None:
    before = await backend_of(pool)

    with taking(at_most=2), pytest.raises(asyncpg.DataError, match="invalid input"):
        await Database(pool, 10).read(NUMBER, number=number)

    assert await backend_of(pool) == before


async def test_misusing_the_driver_is_our_defect_and_is_not_tried_again(
    pool: Pool,
    taking: Taking,
) -> None:
    misused = Statement(NUMBER.sql, ())

    with taking(at_most=2), pytest.raises(asyncpg.InterfaceError, match="expects 1 argument"):
        await Database(pool, 10).read(misused)

    assert await Database(pool, 1).read(ONE)


RAISE = "DO $$ BEGIN RAISE EXCEPTION 'as requested' USING ERRCODE = '{}'; END $$"


@pytest.mark.parametrize(
    "sqlstate",
    [
        "08006",  # connection_failure
        "0A000",  # feature_not_supported
        "2200H",  # sequence_generator_limit_exceeded
        "25006",  # read_only_sql_transaction: a replica, or a failover
        "25P02",  # in_failed_sql_transaction: a pooler's server
        "26000",  # invalid_sql_statement_name: a pooler's server
        "28000",  # invalid_authorization_specification
        "3D000",  # invalid_catalog_name
        "40001",  # serialization_failure
        "40P01",  # deadlock_detected
        "42501",  # insufficient_privilege
        "42703",  # undefined_column: not migrated
        "42883",  # undefined_function
        "42P05",  # duplicate_prepared_statement: a pooler's server
        "42P01",  # undefined_table: not migrated
        "53100",  # disk_full
        "53300",  # too_many_connections
        "55P03",  # lock_not_available
        "57014",  # query_canceled
        "57P03",  # cannot_connect_now
        "54001",  # statement_too_complex
        "58030",  # io_error
        "HV000",  # fdw_error: sessions in a foreign table
        "P0001",  # raise_exception: somebody's trigger
        "XX000",  # internal_error
        "YY000",  # a vendor's
    ],
)
async def test_what_is_the_servers_fault_is_unavailable(
    pool: Pool, sqlstate: str, monkeypatch: pytest.MonkeyPatch, taking: Taking
) -> None:
    monkeypatch.setattr(database, "RETRY_FOR", 0.1)

    with taking(at_most=2), pytest.raises(Unavailable, match="as requested"):
        await Database(pool, 5).read(Statement(RAISE.format(sqlstate), ()))

    assert await Database(pool, 5).read(ONE)


@pytest.mark.parametrize(
    "sqlstate",
    [
        "22001",  # string_data_right_truncation
        "22003",  # numeric_value_out_of_range
        "22021",  # character_not_in_repertoire
        "23505",  # unique_violation
        "23514",  # check_violation
        "42601",  # syntax_error
    ],
)
async def test_what_is_the_statements_fault_is_our_defect(pool: Pool, sqlstate: str) -> None:
    before = await backend_of(pool)

    with pytest.raises(asyncpg.PostgresError, match="as requested"):
        await Database(pool, 5).read(Statement(RAISE.format(sqlstate), ()))

    assert await backend_of(pool) == before


@pytest.mark.parametrize("sqlstate", ["26000", "42P05"])
async def test_an_error_of_an_undeclared_pooler_names_the_setting(
    pool: Pool, sqlstate: str
) -> None:
    with pytest.raises(Unavailable, match=r"as requested \(behind a pooler .*pgbouncer=true\)$"):
        await Database(pool, 5).read(Statement(RAISE.format(sqlstate), ()))


async def test_the_servers_message_is_one_line(pool: Pool) -> None:
    detailed = (
        "DO $$ BEGIN RAISE EXCEPTION 'full' USING ERRCODE = '53100', DETAIL = 'ada_client'; END $$"
    )

    with pytest.raises(Unavailable) as refusal:
        await Database(pool, 5).read(Statement(detailed, ()))

    assert refusal.value.reason == "database: DiskFullError: full"


async def test_a_column_that_changed_its_type_is_read_as_it_is_now(url: str, pool: Pool) -> None:
    wanted = Statement("SELECT value FROM changing", ())
    await run_sql(url, "DELETE FROM changing; INSERT INTO changing VALUES (7)")
    assert [record["value"] for record in await Database(pool, 5).read(wanted)] == [7]

    await run_sql(url, "ALTER TABLE changing ALTER value TYPE text")

    assert [record["value"] for record in await Database(pool, 5).read(wanted)] == ["7"]


async def test_the_server_sees_the_name_of_the_application(pool: Pool) -> None:
    [[name]] = await Database(pool, 5).read(
        Statement("SELECT current_setting('application_name')", ())
    )

    assert name == "twofold"
