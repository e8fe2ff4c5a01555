"""What one request has used of PostgreSQL and Redis, and for how long it waited."""

from __future__ import annotations


class Usage:
    """Seconds and round trips of one request. Concurrent statements count each for itself.

    Times are those of ``time.monotonic``.

    Attributes:
        waiting: seconds in which statements waited for a connection.
        database: seconds in which connections were opened and statements ran.
        statements: attempts to run a statement.
        redis: seconds in which Redis was waited for.
        commands: commands that were sent to Redis.
    """

    __slots__ = ("commands", "database", "redis", "statements", "waiting")

    def __init__(self) -> None:
        self.waiting = self.database = self.redis = 0.0
        self.statements = self.commands = 0

    def add_wait(self, began: float, ended: float) -> None:
        """Add a wait for a connection."""
        self.waiting += ended - began

    def add_statement(self, sql: str, began: float, ended: float) -> None:
        """Add an attempt to run a statement.

        Args:
            sql: its text, which has no values.
            began: when it had the right to a connection.
        """
        self.database += ended - began
        self.statements += 1

    def add_command(self, began: float, ended: float) -> None:
        """Add a command of Redis."""
        self.redis += ended - began
        self.commands += 1
