"""Sends GraphQL documents, and reads the codes of their errors."""

from __future__ import annotations

from typing import Any, Final

import httpx

GRAPHQL: Final = "application/graphql-response+json"
JSON: Final = "application/json"


async def ask(client: httpx.AsyncClient, query: str, **sent: Any) -> httpx.Response:
    """Send a document in the newer media type."""
    return await client.post(
        "/graphql", json={"query": query, **sent}, headers={"Accept": f"{GRAPHQL}, {JSON};q=0.9"}
    )


def codes(response: httpx.Response) -> list[str]:
    return [error["extensions"]["code"] for error in response.json()["errors"]]


def lists(count: int, arguments: str = "", selected: str = "nodes { title }") -> str:
    """The selection of ``tasks`` under as many aliases."""
    return " ".join(f"t{n}: tasks{arguments} {{ {selected} }}" for n in range(count))
