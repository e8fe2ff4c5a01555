"""Server CPU of REST's operations: ``python -m benchmarks.rest``."""

from __future__ import annotations

from benchmarks.house import cpu_per_request, database, house, request

OPERATIONS = {
    "health": (request("GET", "/health"), 2000),
    "get": (request("GET", "/tasks/1"), 2000),
    "list of 1": (request("GET", "/tasks?limit=1"), 2000),
    "list of 100": (request("GET", "/tasks?limit=100"), 800),
    "list of 1000": (request("GET", "/tasks?limit=1000"), 200),
    "create": (request("POST", "/tasks", b'{"title": "Water the plants"}'), 1000),
    "change": (request("PATCH", "/tasks/1", b'{"completed": true}'), 1000),
}


def main() -> None:
    """Print microseconds of server CPU per request."""
    with database() as url, house(url, RATE_LIMIT_ENABLED="false") as served:
        for name, (message, times) in OPERATIONS.items():
            print(f"{name:>14}  {cpu_per_request(served, message, times):8.0f} µs")


if __name__ == "__main__":
    main()
