"""How many functions of ours a title passes, so that their number does not grow unnoticed.

Whoever follows a title through the code reads so many of them. Each also costs CPU.
"""

from __future__ import annotations

import pytest

from tests.operations import Api
from tests.people import Person
from tests.walk import Walk

THERE = {
    Api.REST: [
        "read_json",
        "AuthenticatedRoute._respond",
        "ErrorCollector.validate",
        "create_task",
        "create",
        "arguments",
        "write",
    ],
    Api.GRAPHQL: [
        "read_json",
        "request_of",
        "GraphQLEndpoint._respond",
        "VariableReader.read",
        "Operation.bind",
        "Call.execute",
        "_wrap.<locals>.resolve",
        "TaskMutations.create_task",
        "ErrorCollector.validate",
        "create",
        "arguments",
        "write",
    ],
}
BACK = {
    Api.REST: ["write", "create", "create_task", "_task", "RowEncoder.one"],
    Api.GRAPHQL: [
        "write",
        "create",
        "TaskMutations.create_task",
        "CompiledExecutor.collect_and_execute_subfields",
        "read",
        "Call.execute",
    ],
}


@pytest.fixture
async def walk(ada: Person) -> Walk:
    """The walk of a title, after everything was prepared."""
    await ada.create_task("water the plants")
    walk = Walk("Zebra crossing")
    with walk.watched():
        await ada.create_task("Zebra crossing")
    return walk


async def test_a_title_passes_few_functions_on_its_way_to_a_statement(
    walk: Walk, ada: Person
) -> None:
    assert set(walk.there) == set(THERE[ada.surface.api])


async def test_a_title_passes_few_functions_on_its_way_back(walk: Walk, ada: Person) -> None:
    assert set(walk.back) == set(BACK[ada.surface.api])
