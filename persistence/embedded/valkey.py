"""An embedded Valkey server, in memory only."""

from __future__ import annotations

import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from persistence.embedded import binaries, processes
from persistence.embedded.errors import EmbeddedError

START_TIMEOUT: Final = 60.0
"""Seconds in which the server has to answer after its start."""


@contextmanager
def valkey() -> Iterator[Valkey]:
    """Run a Valkey server on 127.0.0.1.

    Raises:
        EmbeddedError: there is no Valkey for this machine, or it does not start.
    """
    server = Valkey(binaries.find_valkey(), secrets.token_urlsafe(24))
    server.start()
    try:
        yield server
    finally:
        server.stop()


@dataclass
class Valkey:
    """One server. Its port and its password stay the same when it is stopped and started.

    Args:
        binary: the program.
        password: the password that every client needs.
        port: the port on 127.0.0.1; 0 before the first start.
    """

    binary: Path
    password: str = field(repr=False)
    port: int = 0
    process: subprocess.Popen[bytes] = field(init=False, repr=False)

    @property
    def url(self) -> str:
        """The URL of database 0, with the password."""
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start, and return when commands are answered.

        Raises:
            EmbeddedError: the server ends again and again for START_TIMEOUT.
        """
        deadline = time.monotonic() + START_TIMEOUT
        port = self.port or processes.free_port()
        while not self._try_start(port):
            if time.monotonic() > deadline:
                raise EmbeddedError(f"{self.binary} ends as soon as it is started.")
            time.sleep(0.05)
            port = self.port or processes.free_port()
        self.port = port

    def stop(self) -> None:
        """Stop with SIGTERM."""
        processes.stop(self.process, signal.SIGTERM)

    def kill(self) -> None:
        """Stop as a crash would."""
        processes.stop(self.process, signal.SIGKILL)

    def restart(self) -> None:
        """Stop, then start."""
        self.stop()
        self.start()

    def _try_start(self, port: int) -> bool:
        self.process = processes.spawn(
            [self.binary, "-"],
            # On standard input, because every user can read a command line.
            stdin=f'bind 127.0.0.1\nport {port}\nsave ""\nrequirepass {self.password}\n',
            parent_death_signal=signal.SIGKILL,
        )
        while self.process.poll() is None:
            if _answers(port, self.password):
                return True
            time.sleep(0.01)
        return False


def _answers(port: int, password: str) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(f"AUTH {password}\r\nPING\r\n".encode())
            return connection.makefile("rb").read(12) == b"+OK\r\n+PONG\r\n"
    except OSError:
        return False
