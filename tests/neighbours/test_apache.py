"""Apache with ``mod_deflate``, which renames entity tags when it compresses."""

from __future__ import annotations

from pathlib import Path

import asyncpg
import httpx
import pytest

from tests.neighbours.proxies import apache
from tests.people import sign_in
from tests.servers import served
from tests.surfaces import RestSurface

SUFFIXES = ["-gzip", "-br", "-zstd", ";gzip", "--gzip"]


@pytest.mark.proxies
async def test_a_task_can_be_changed_with_the_tag_that_apache_made_of_ours(
    database_url: str, sql: asyncpg.Connection, tmp_path: Path
) -> None:
    async with served(database_url) as (direct, _):
        ada = await sign_in(sql, RestSurface(direct), "ada")
        directives = (
            f"ProxyPass / {direct.base_url}/\nSetOutputFilter DEFLATE\nProxyPreserveHost On"
        )
        async with apache(tmp_path, directives) as client:
            client.headers["Authorization"] = f"Bearer {ada.token}"
            task = (await client.post("/tasks", json={"title": "x" * 200})).json()
            path = f"/tasks/{task['id']}"

            read = await client.get(path, headers={"Accept-Encoding": "gzip"})
            renamed = read.headers["ETag"]
            again = await client.get(
                path, headers={"Accept-Encoding": "gzip", "If-None-Match": renamed}
            )
            changed = await client.patch(
                path, json={"completed": True}, headers={"If-Match": renamed}
            )

    assert read.headers["Content-Encoding"] == "gzip"
    assert renamed == '"1-gzip"'  # Otherwise this test shows nothing.
    assert (again.status_code, changed.status_code) == (304, 200)


@pytest.mark.parametrize("weak", ["", "W/"], ids=["strong", "weak"])
@pytest.mark.parametrize("suffix", SUFFIXES)
async def test_a_tag_with_the_suffix_of_a_proxy_is_ours(
    suffix: str, weak: str, ada_client: httpx.AsyncClient
) -> None:
    task = (await ada_client.post("/tasks", json={"title": "water the plants"})).json()
    path, tag = f"/tasks/{task['id']}", f'{weak}"1{suffix}"'

    read = await ada_client.get(path, headers={"If-None-Match": tag})
    changed = await ada_client.patch(path, json={"completed": True}, headers={"If-Match": tag})
    refused = await ada_client.patch(path, json={"completed": False}, headers={"If-Match": tag})

    assert (read.status_code, changed.status_code, refused.status_code) == (304, 200, 412)


@pytest.mark.parametrize("tag", ['"1-"', '"1-gzi"', '"-gzip"', '"1gzip"', '"1-gzip-gzip"', '"01"'])
async def test_another_tag_is_not(tag: str, ada_client: httpx.AsyncClient) -> None:
    task = (await ada_client.post("/tasks", json={"title": "water the plants"})).json()

    refused = await ada_client.delete(f"/tasks/{task['id']}", headers={"If-Match": tag})

    assert refused.status_code == 412
