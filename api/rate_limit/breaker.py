"""The circuit breaker that decides whether Redis is called at all."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class CircuitBreaker:
    """Opens after several failures in a row; its owner closes it again.

    One failure proves nothing, because a busy event loop can cause a time-out. A breaker that
    opened at the first failure let more than the limit through.

    Attributes:
        failures_to_open: consecutive failures that open it.
        failures: consecutive failures so far.
        is_open: whether calls must not be made.
    """

    failures_to_open: int = 3
    failures: int = 0
    is_open: bool = False

    def record_success(self) -> None:
        """Count a call that succeeded."""
        self.failures = 0

    def record_failure(self) -> bool:
        """Count a call that failed; return whether the breaker has to be opened."""
        self.failures += 1
        return self.failures >= self.failures_to_open

    def open(self) -> None:
        """Stop calls."""
        self.is_open = True

    def close(self) -> None:
        """Allow calls again."""
        self.failures = 0
        self.is_open = False
