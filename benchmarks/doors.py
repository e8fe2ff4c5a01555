"""What GraphQL costs beside REST, server CPU for the same work: ``python -m benchmarks.doors``."""

from __future__ import annotations

import json

from benchmarks.house import cpu_per_request, database, house, request

FIELDS = "id userId title description completed version createdAt updatedAt"


def graphql(query: str, **variables: object) -> bytes:
    """The bytes of a request that runs a document."""
    return request(
        "POST", "/graphql", json.dumps({"query": query, "variables": variables}).encode()
    )


def _listed(first: int) -> tuple[bytes, bytes]:
    query = f"query ($first: Int) {{ tasks(first: $first) {{ nodes {{ {FIELDS} }} }} }}"
    return request("GET", f"/tasks?limit={first}"), graphql(query, first=first)


OPERATIONS = {
    "one task": (
        request("GET", "/tasks/1"),
        graphql(f"query ($id: ID!) {{ task(id: $id) {{ {FIELDS} }} }}", id="1"),
        1000,
    ),
    "list of 1": (*_listed(1), 1000),
    "list of 100": (*_listed(100), 600),
    "list of 1000": (*_listed(1000), 150),
    "create": (
        request("POST", "/tasks", b'{"title": "Water the plants"}'),
        graphql(
            f"mutation ($input: CreateTaskInput!) {{ createTask(input: $input) {{ {FIELDS} }} }}",
            input={"title": "Water the plants"},
        ),
        600,
    ),
    "change": (
        request("PATCH", "/tasks/1", b'{"completed": true}'),
        graphql(
            f"mutation ($id: ID!, $input: UpdateTaskInput!) "
            f"{{ updateTask(id: $id, input: $input) {{ {FIELDS} }} }}",
            id="1",
            input={"completed": True},
        ),
        600,
    ),
}


def main() -> None:
    """Print microseconds of server CPU per request through each door, and their ratio."""
    print(f"{'':>14}  {'REST':>8}  {'GraphQL':>8}  ratio")
    with database() as url, house(url, RATE_LIMIT_ENABLED="false") as served:
        for name, (rest, graphql, times) in OPERATIONS.items():
            one = cpu_per_request(served, rest, times)
            other = cpu_per_request(served, graphql, times)
            print(f"{name:>14}  {one:5.0f} µs  {other:5.0f} µs  {other / one:.2f}")


if __name__ == "__main__":
    main()
