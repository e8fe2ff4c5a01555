"""The demo token in ``/docs``: where GraphiQL has it. What the page does with it is tested in a
browser, in ``browser/``."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.test_index_page import PRODUCTION, client_of


def settings_in(page: str) -> Any:
    """What the server tells the page's script."""
    [text] = re.findall(r'<script type="application/json" id="twofold">(.*?)</script>', page)
    return json.loads(text)


@pytest.mark.parametrize(
    ("settings", "token"),
    [({"demo_token": "demo_0123456789"}, "demo_0123456789"), ({}, None), (PRODUCTION, None)],
)
async def test_the_page_has_the_demo_token_outside_production(
    settings: dict[str, Any], token: str | None
) -> None:
    async with client_of(**settings) as client:
        page = await client.get("/docs")

    assert settings_in(page.text) == {"token": token}
    assert ("demo_" in page.text) == (token is not None)


async def test_no_file_has_the_token_and_the_page_is_stored_and_loaded_by_no_one() -> None:
    async with client_of(demo_token="demo_0123456789") as client:
        page = await client.get("/docs")
        paths = ("/docs/init.js", "/docs/docs.css", "/openapi.json")
        files = [await client.get(path) for path in paths]

    assert page.headers["Cache-Control"] == "no-store"
    assert page.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "frame-ancestors 'none'" in page.headers["Content-Security-Policy"]
    assert all("demo_" not in file.text and file.status_code == 200 for file in files)


async def test_a_token_cannot_end_the_element_it_stands_in() -> None:
    token = "</script><script src=//evil.example></script><!--"
    async with client_of(demo_token=token) as client:
        page = await client.get("/docs")

    assert settings_in(page.text) == {"token": token}
    assert "<script src=//evil" not in page.text
