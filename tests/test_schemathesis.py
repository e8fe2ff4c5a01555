"""What Schemathesis finds when it reads the OpenAPI document and tries everything it says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from fastapi import FastAPI
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema
from schemathesis.engine.recorder import CheckNode, ScenarioRecorder
from schemathesis.generation import GenerationMode
from schemathesis.python import asgi

from api.app import create_app
from tests import conftest, documented

SECONDS = 10
"""For as long it alternates between single requests and sequences of them."""


@pytest.fixture
def own_app(database_url: str) -> Iterator[FastAPI]:
    """An app that lives in Schemathesis's event loop, and answers to its host."""
    yield create_app(conftest.settings_of_tests(database_url=database_url, host=asgi.HOST))
    asgi.shutdown_lifespans()


@pytest.mark.slow
def test_schemathesis_finds_nothing(own_app: FastAPI, ada_client: httpx.AsyncClient) -> None:
    token = ada_client.headers["Authorization"].removeprefix("Bearer ")
    config = SchemathesisConfig.from_dict(_config(token))
    schema = schemathesis.openapi.from_asgi("/openapi.json", own_app, config=config)

    happened = list(from_schema(schema).execute())

    assert _defects(happened) == []
    assert _findings(happened) == []
    assert _tried(happened) == set(documented.OPERATIONS)


def _config(token: str) -> dict[str, Any]:
    return {
        "seed": 1,
        "max-time": SECONDS,
        "auth": {"openapi": {"session": {"bearer": token}}},
        "generation": {"deterministic": True, "max-examples": 20, "database": "none"},
        "checks": {
            # A precondition that fails (412) says nothing against the data, and neither
            # does a key that was used before (409, 422).
            "positive_data_acceptance": {
                "expected-statuses": ["2xx", "3xx", "404", "409", "412", "422"]
            },
        },
    }


def _defects(happened: Iterable[events.EngineEvent]) -> list[object]:
    """What kept Schemathesis itself from working."""
    return [
        event for event in happened if isinstance(event, events.NonFatalError | events.FatalError)
    ]


def _findings(happened: Iterable[events.EngineEvent]) -> list[str]:
    return [
        f"{check.name}: {check.failure_info.failure}\n{check.failure_info.code_sample}"
        for event in happened
        if isinstance(event, events.ScenarioFinished)
        for case_id, checks in event.recorder.checks.items()
        for check in checks
        if check.failure_info and not _is_contradiction(check, event.recorder, case_id)
    ]


def _is_contradiction(check: CheckNode, recorder: ScenarioRecorder, case_id: str) -> bool:
    """Data expected to be accepted, and marked as wrong by Schemathesis (4.32) all the same.

    It tries an id near its bound together with an ``If-Match`` that it broke on purpose, and such
    an ``If-Match`` without the other optional header. A cursor belongs to an order, and zones have
    names, which the schema does not say.
    """
    case = recorder.cases[case_id].value
    meta = case.meta
    if not {"cursor", "zone"}.isdisjoint(case.query or {}):
        return check.name == "positive_data_acceptance"
    if (case.headers or {}).get("If-Match") == "0":
        return check.name == "positive_data_acceptance"
    parts = meta.components.values() if meta else ()
    is_broken = any(part.mode is GenerationMode.NEGATIVE for part in parts)
    return is_broken and check.name == "positive_data_acceptance"


def _tried(happened: Iterable[events.EngineEvent]) -> set[str]:
    return {
        str(node.value.operation.definition.raw["operationId"])
        for event in happened
        if isinstance(event, events.ScenarioFinished)
        for node in event.recorder.cases.values()
    }
