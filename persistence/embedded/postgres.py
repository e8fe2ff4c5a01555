"""An embedded PostgreSQL server, for development and tests.

On Linux the server ends with the thread that started it, even if that is killed. Elsewhere the
next start in the same folder stops a server that a killed process left behind.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Final

from persistence.embedded import accounts, binaries, homes, initdb, processes
from persistence.embedded.errors import EmbeddedError, describe

START_TIMEOUT: Final = 60.0
"""Seconds in which the server has to accept connections after its start."""


@contextmanager
def postgres(directory: Path | None = None, *, durable: bool = True) -> Iterator[Postgres]:
    """Run a PostgreSQL server on 127.0.0.1.

    Args:
        directory: where its data are kept; without it, in a temporary folder that is removed.
        durable: whether the data survive a power failure; without it, everything is faster.

    Raises:
        EmbeddedError: it cannot run here, or another process runs the one in ``directory``.
    """
    if sys.platform == "win32":
        raise EmbeddedError("The embedded PostgreSQL needs Linux or macOS: set DATABASE_URL.")
    with ExitStack() as stack:
        try:
            server = _start(directory, durable, stack)
        except OSError as error:
            raise EmbeddedError(f"PostgreSQL cannot run: {describe(error)}.") from None
        yield server


def _start(directory: Path | None, durable: bool, stack: ExitStack) -> Postgres:
    account = accounts.server_account()
    home = homes.home_for(directory) if directory else stack.enter_context(homes.temporary_home())
    accounts.create_folder(home)
    stack.enter_context(homes.locked(home))
    server = _prepare(home, account, durable)
    server.start()
    stack.callback(server.stop)
    return server


@dataclass
class Postgres:
    """One server. Its port and its data stay the same when it is stopped and started.

    Args:
        home: the folder with the data, the password and the log.
        binaries: the folder with the programs.
        account: the account that it runs as; None is the current one.
        password: the superuser's password.
        durable: whether the data survive a power failure.
        port: the port on 127.0.0.1; 0 before the first start.
    """

    user: ClassVar[str] = initdb.SUPERUSER

    home: Path
    binaries: Path
    account: processes.Account | None
    password: str
    durable: bool
    port: int = 0
    process: subprocess.Popen[bytes] = field(init=False, repr=False)

    def __repr__(self) -> str:
        # The generated one would show the password.
        return f"Postgres({str(self.home)!r}, port={self.port})"

    @property
    def data(self) -> Path:
        """PostgreSQL's data folder."""
        return self.home / "data"

    @property
    def log(self) -> Path:
        """The server's log file, written anew with each start."""
        return self.home / "postgres.log"

    def url(self, database: str = "postgres") -> str:
        """The superuser's URL of a database, with the password."""
        return f"postgresql://{self.user}:{self.password}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start, and return when connections are accepted.

        Raises:
            EmbeddedError: the server does not start; the message quotes its log.
        """
        deadline = time.monotonic() + START_TIMEOUT
        _stop_abandoned_server(self.data)
        port = self.port or processes.free_port()
        while not self._try_start(port, deadline):
            message = processes.log_tail(self.log)
            if not _is_temporary(message) or time.monotonic() > deadline:
                raise EmbeddedError(f"PostgreSQL did not start; {self.log} ends:\n{message}")
            time.sleep(0.05)
            port = self.port or processes.free_port()
        self.port = port

    def stop(self) -> None:
        """Stop: connections are closed at once; committed data are on disk."""
        processes.stop(self.process, signal.SIGINT, signal.SIGQUIT)

    def kill(self) -> None:
        """Stop as a crash would."""
        processes.stop(self.process, signal.SIGKILL)

    def restart(self) -> None:
        """Stop, then start."""
        self.stop()
        self.start()

    def _try_start(self, port: int, deadline: float) -> bool:
        self.process = processes.spawn(
            [self.binaries / "postgres", "-D", self.data, *self._options(port)],
            log=self.log,
            account=self.account,
            parent_death_signal=signal.SIGINT if self.durable else signal.SIGQUIT,
        )
        while self.process.poll() is None:
            if _read_pid_file(self.data) == (self.process.pid, "ready"):
                return True
            if time.monotonic() > deadline:
                self.kill()
            time.sleep(0.01)
        return False

    def _options(self, port: int) -> Iterator[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": port,
            "unix_socket_directories": "",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "max_connections": 100,
            "shared_buffers": "32MB",
            # Compiling any of our statements takes longer than running it.
            "jit": "off",
        }
        if not self.durable:
            settings |= {
                "fsync": "off",
                "synchronous_commit": "off",
                "full_page_writes": "off",
                "wal_level": "minimal",
                "max_wal_senders": 0,
                "autovacuum": "off",
            }
        for key, value in settings.items():
            yield from ("-c", f"{key}={value}")


def _prepare(home: Path, account: processes.Account | None, durable: bool) -> Postgres:
    data = home / "data"
    data_major = _read_major(data, account) if data.exists() else None
    programs = binaries.find_postgres(data_major, account)
    if data_major is None:
        initdb.initialize(home, programs, account)
    return Postgres(home, programs, account, initdb.read_password(home), durable)


def _read_major(data: Path, account: processes.Account | None) -> int:
    """The major version of the PostgreSQL that made the data, which must be the account's."""
    owner = data.stat().st_uid
    if owner != (account.uid if account else os.geteuid()):
        raise EmbeddedError(
            f"{data} was made by another user (uid {owner}): run as that user, or move it away."
        )
    try:
        return int((data / "PG_VERSION").read_text())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        raise EmbeddedError(
            f"{data} is not a folder of PostgreSQL 10 or newer: move it away."
        ) from None


def _stop_abandoned_server(data: Path) -> None:
    """Stop the server of a process that was killed. Only the holder of the lock may call this."""
    deadline = time.monotonic() + processes.STOP_TIMEOUT
    pid, _ = _read_pid_file(data)
    while pid and _is_server(pid, data):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGINT)
        if time.monotonic() > deadline:
            raise EmbeddedError(f"An old PostgreSQL (process {pid}) in {data} does not end.")
        time.sleep(0.05)
    if pid and _is_alive(pid):
        # Another program has this process id now; PostgreSQL would take it for a running server.
        (data / "postmaster.pid").unlink(missing_ok=True)


def _read_pid_file(data: Path) -> tuple[int, str]:
    """The process id and the status in postmaster.pid; (0, "") if there is no such file."""
    with suppress(OSError, ValueError, IndexError):
        lines = (data / "postmaster.pid").read_text().splitlines()
        return int(lines[0]), lines[7].strip() if len(lines) > 7 else ""
    return 0, ""


def _is_server(pid: int, data: Path) -> bool:
    return _is_alive(pid) and os.fsencode(data) in _command_line(pid)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _command_line(pid: int) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    with suppress(OSError):
        return processes.run(["ps", "-ww", "-o", "command=", "-p", str(pid)], None).stdout
    return b""


def _is_temporary(message: str) -> bool:
    """Whether another attempt can succeed: the port was taken, or a killed server is not gone."""
    return "could not bind" in message or "shared memory block" in message
