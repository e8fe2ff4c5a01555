"""What requests cost, and what is left of a budget: plain data."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple


class Limit(NamedTuple):
    """At most ``amount`` hits within any ``seconds``."""

    amount: int
    seconds: int


class WindowState(NamedTuple):
    """The state of a window after a hit.

    Attributes:
        allowed: whether the hit was counted; all of its cost is counted, or none of it.
        limit: the limit of the window.
        remaining: how many hits are left now, 0 or more.
        seconds_until_allowed: until the hit would be allowed; 0 if it was, infinite if it never
            will be.
        seconds_until_full: until the whole limit is available again.
        now: the Unix time in seconds, by the clock that decided.
        seconds_until_one_fits: until a hit of 1 would be allowed; 0 if hits are left.
    """

    allowed: bool
    limit: Limit
    remaining: int
    seconds_until_allowed: float
    seconds_until_full: float
    now: float
    seconds_until_one_fits: float = 0.0


class Kind(StrEnum):
    """The two kinds of requests; each has a limit of its own."""

    READ = "read"
    WRITE = "write"


class Cost(NamedTuple):
    """What a request costs: in REST 1, in GraphQL 1 for each root field of the document.

    Creating many tasks costs more in both (``cost_of_new``).
    """

    kind: Kind
    amount: int = 1


TASKS_A_WRITE: Final = 20
"""Creating tasks at once costs one write for every so many begun."""


def cost_of_new(tasks: int) -> Cost:
    """What it costs to create so many tasks at once."""
    return Cost(Kind.WRITE, max(1, -(-tasks // TASKS_A_WRITE)))


ONE_READ: Final = Cost(Kind.READ)
ONE_WRITE: Final = Cost(Kind.WRITE)


class Charge(NamedTuple):
    """What was charged for a request, or refused, and what is left.

    Attributes:
        cost: the cost of the request.
        window: the state of the payer's window afterwards.
        reset: the Unix second, rounded up, at which the whole budget is available again.
        headers: ``X-RateLimit-*``, and those of the IETF draft.
    """

    cost: Cost
    window: WindowState
    reset: int
    headers: list[tuple[bytes, bytes]]
