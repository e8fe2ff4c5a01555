"""Server CPU of a request with the budget on and off: ``python -m benchmarks.budget``."""

from __future__ import annotations

from benchmarks.house import cpu_per_request, database, house, request
from persistence.embedded.valkey import valkey

SETTINGS = {
    "off": {"RATE_LIMIT_ENABLED": "false"},
    "in process": {},
    "on Redis": {"REDIS_URL": "", "RATE_LIMIT_TIMEOUT_MS": "5000"},
}


def main() -> None:
    """Print microseconds of server CPU per request, and each as a multiple of the first."""
    message = request("GET", "/tasks/1")
    with database(1) as url, valkey() as redis:
        first = 0.0
        for name, settings in SETTINGS.items():
            environment = {"RATE_LIMIT_READ": "1000000/minute"} | settings
            if "REDIS_URL" in environment:
                environment["REDIS_URL"] = redis.url
            with house(url, **environment) as served:
                cost = cpu_per_request(served, message, 1500)
            first = first or cost
            print(f"{name:>12}  {cost:6.0f} µs  {cost / first:.2f}")


if __name__ == "__main__":
    main()
