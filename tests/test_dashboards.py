"""The dashboard and the alerts ask only for what a running service exports."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

import asyncpg
import httpx
import pytest
import yaml

from api.app import create_app
from api.telemetry.series import FOLDER_VARIABLE, Collector
from persistence import tasks
from tests.conftest import ROOT, new_client, settings_of_tests
from tests.people import HASH_SECRET, sign_in
from tests.surfaces import RestSurface
from tests.test_metrics import Samples, samples_of

FOLDER: Final = ROOT / "docs/operations"

NAME = re.compile(r"\b(twofold_\w+)(?:\{(.*?)\})?")
MATCHER = re.compile(r'(\w+)\s*(=|!=|=~|!~)\s*"(.*?)"')
GROUPING = re.compile(r"\bby \((.*?)\)")
LEGEND = re.compile(r"\{\{(\w+)\}\}")

OF_PROMETHEUS: Final = {"job", "instance"}
"""Labels that Prometheus adds."""


def dashboard() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((FOLDER / "dashboard.json").read_text(encoding="utf-8"))
    return loaded


def alerts() -> list[dict[str, Any]]:
    [group] = yaml.safe_load((FOLDER / "alerts.yaml").read_text(encoding="utf-8"))["groups"]
    rules: list[dict[str, Any]] = group["rules"]
    return rules


def targets() -> Iterator[dict[str, str]]:
    for panel in dashboard()["panels"]:
        yield from panel["targets"]


EXPRESSIONS: Final = [
    *(target["expr"] for target in targets()),
    *(rule["expr"] for rule in alerts()),
]


@pytest.fixture(scope="session")
async def exported(tmp_path_factory: pytest.TempPathFactory, database_url: str) -> Samples:
    """What a service exports that has answered, refused and failed."""
    folder = tmp_path_factory.mktemp("metrics")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(FOLDER_VARIABLE, str(folder))
        app = create_app(settings_of_tests(database_url=database_url))
    sql = await asyncpg.connect(database_url)
    async with app.router.lifespan_context(app), new_client(app) as client:
        ada = await sign_in(sql, RestSurface(client), "ada", HASH_SECRET)
        client.headers["Authorization"] = f"Bearer {ada.token}"
        await ask(client)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tasks, "list_changed_page", None)
            await client.get("/tasks")
    await sql.close()
    return samples_of(Collector(folder).text())


async def ask(client: httpx.AsyncClient) -> None:
    await client.get("/tasks")
    await client.get("/nowhere")
    await client.get("/health/ready")
    await client.post("/graphql", json={"query": "{ tasks { totalCount } }"})


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_a_query_matches_what_is_exported(expression: str, exported: Samples) -> None:
    labels: set[str] = set()
    for name, selector in NAME.findall(expression):
        label_sets = [dict(pairs) for each, pairs in exported if each == name]
        assert label_sets, name
        labels |= {label for each in label_sets for label in each}
        for label, _, value in MATCHER.findall(selector):
            values = {each.get(label) for each in label_sets}
            assert label in OF_PROMETHEUS or value in values, (name, label, value)
    for group in GROUPING.findall(expression):
        assert {label.strip() for label in group.split(",")} <= labels | OF_PROMETHEUS
    for opening, closing in ("()", "{}", "[]"):
        assert expression.count(opening) == expression.count(closing)
    assert NAME.search(expression)


def test_a_legend_names_labels_that_its_query_keeps() -> None:
    for target in targets():
        kept = {
            label.strip()
            for group in GROUPING.findall(target["expr"])
            for label in group.split(",")
        }
        assert set(LEGEND.findall(target["legendFormat"])) <= kept, target


def test_panels_do_not_overlap() -> None:
    cells = [
        (x, y)
        for panel in dashboard()["panels"]
        for place in [panel["gridPos"]]
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]

    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


def test_every_metric_is_on_the_dashboard(exported: Samples) -> None:
    displayed = {name for target in targets() for name, _ in NAME.findall(target["expr"])}
    families = {re.sub("_(bucket|count|sum)$", "", name) for name, _ in exported}

    assert families == {re.sub("_(bucket|count|sum)$", "", name) for name in displayed}


def test_every_alert_and_every_metric_is_explained(exported: Samples) -> None:
    text = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    names = {rule["alert"] for rule in alerts()}
    names |= {re.sub("_(bucket|count|sum)$", "", name) for name, _ in exported}

    assert [name for name in sorted(names) if f"`{name}`" not in text] == []


def test_every_alert_says_how_bad_it_is_and_what_is_so() -> None:
    for rule in alerts():
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"]["summary"].endswith(".")
