"""The files that the pages load: small on the wire, kept by browsers, the same bytes either way."""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from typing import Final

import httpx
import pytest

from tests.conftest import ROOT

DOCS: Final = ROOT / "rest" / "docs"
DIST: Final = ROOT / "graphql_schema" / "graphiql" / "dist"
COMPRESSED: Final = sorted([*DOCS.glob("*.gz"), *DIST.glob("*.gz")])

[MAIN] = DIST.glob("main-*.js")
IMMUTABLE: Final = f"/graphql/assets/{MAIN.name}"
REVALIDATED: Final = "/docs/swagger-ui-bundle.js"
FILES: Final = {
    IMMUTABLE: MAIN.read_bytes(),
    REVALIDATED: (DOCS / "swagger-ui-bundle.js").read_bytes(),
    "/graphql/assets/LICENSES.txt": (DIST / "LICENSES.txt").read_bytes(),
}
"""What stands in the file at each path."""


async def raw(client: httpx.AsyncClient, path: str, **headers: str) -> tuple[httpx.Response, bytes]:
    """A response, and its body as it was sent."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    async with client.stream("GET", path, headers={"Accept-Encoding": ""} | names) as response:
        return response, b"".join([chunk async for chunk in response.aiter_raw()])


@pytest.mark.parametrize("path", FILES)
@pytest.mark.parametrize("accepted", ["gzip", "br;q=1, GZIP;q=0.5", "*", "deflate, gzip, br, zstd"])
async def test_a_file_is_sent_compressed_to_clients_that_accept_it(
    path: str, accepted: str, client: httpx.AsyncClient
) -> None:
    response, body = await raw(client, path, accept_encoding=accepted)

    assert response.headers["Content-Encoding"] == "gzip"
    assert response.headers["Content-Length"] == str(len(body))
    assert len(body) < len(FILES[path]) / 2
    assert gzip.decompress(body) == FILES[path]


@pytest.mark.parametrize("path", FILES)
@pytest.mark.parametrize("accepted", ["", "identity", "br", "gzip;q=0", "*;q=0", "gzip;q=0, *"])
async def test_a_file_is_sent_as_it_is_to_others(
    path: str, accepted: str, client: httpx.AsyncClient
) -> None:
    response, body = await raw(client, path, accept_encoding=accepted)

    assert "Content-Encoding" not in response.headers
    assert body == FILES[path]


@pytest.mark.parametrize("accepted", ["gzip", ""])
@pytest.mark.parametrize("path", FILES)
async def test_caches_keep_both_forms_apart(
    path: str, accepted: str, client: httpx.AsyncClient
) -> None:
    first, _ = await raw(client, path, accept_encoding=accepted)
    tag = first.headers["ETag"]
    again, body = await raw(client, path, accept_encoding=accepted, if_none_match=f'"x", W/{tag}')
    other, _ = await raw(client, path, accept_encoding="gzip" if not accepted else "")

    assert "Accept-Encoding" in re.split(", *", first.headers["Vary"])
    assert (again.status_code, body) == (304, b"")
    for name in ("ETag", "Cache-Control", "Vary"):
        assert again.headers[name] == first.headers[name]
    assert other.headers["ETag"] != tag


async def test_what_has_a_hash_in_its_name_is_never_asked_for_again(
    client: httpx.AsyncClient,
) -> None:
    hashed = await client.get(IMMUTABLE)
    named = await client.get(REVALIDATED)

    assert hashed.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert named.headers["Cache-Control"] == "no-cache"


@pytest.mark.parametrize(
    ("path", "accept"),
    [("/", "text/html"), ("/graphql", "text/html"), ("/docs", "text/html"), ("/tasks", "*/*")],
)
async def test_what_is_made_for_a_request_is_not_compressed(
    path: str, accept: str, ada_client: httpx.AsyncClient
) -> None:
    headers = {"Accept": accept, "Accept-Encoding": "gzip, br"}
    response = await ada_client.get(path, headers=headers)

    assert response.status_code == 200
    assert "Content-Encoding" not in response.headers


@pytest.mark.parametrize("file", COMPRESSED, ids=lambda file: file.name)
def test_a_compressed_file_is_the_file_beside_it(file: Path) -> None:
    assert gzip.decompress(file.read_bytes()) == file.with_suffix("").read_bytes()


def test_everything_large_has_a_compressed_form() -> None:
    files = [*DIST.iterdir(), *DOCS.glob("*.js"), *DOCS.glob("*.css")]
    large = {file for file in files if file.suffix != ".gz" and file.stat().st_size > 10_000}

    assert large - {file.with_suffix("") for file in COMPRESSED} == set()
