"""Debian's PgBouncer in transaction mode, in front of a PostgreSQL of the tests."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest

from persistence.embedded import processes
from persistence.embedded.private_files import write_private

REQUIRED = os.environ.get("TWOFOLD_REQUIRE_PGBOUNCER") == "1"

THROUGH = os.environ.get("TWOFOLD_TEST_THROUGH") == "pgbouncer"
"""Whether every app in this process reaches PostgreSQL through PgBouncer."""

POOLED_HOST = "ep-cool-name-123456-pooler.localhost"
"""A host name that is recognised as a pooler, as Neon's are."""

SERVERS = 3
"""The connections to PostgreSQL that all clients of a database share. They are few, so that
different clients use the same one."""

_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])


def executable() -> str:
    """The path of PgBouncer. Without one the test is skipped, or fails where it is required."""
    path = shutil.which("pgbouncer", path=_PATH)
    if path is None:
        missing = "PgBouncer is not installed (Debian: apt-get install pgbouncer)"
        pytest.fail(missing) if REQUIRED else pytest.skip(missing)
    return path


class PgBouncer:
    """A PgBouncer in front of a PostgreSQL.

    Attributes:
        port: of 127.0.0.1.
    """

    def __init__(self, program: str, home: Path, port: int) -> None:
        self.port = port
        self._program, self._home = program, home
        self._process: subprocess.Popen[bytes]

    def start(self) -> None:
        """Start, and wait until it listens."""
        self._process = processes.spawn(
            [self._program, self._home / "pgbouncer.ini"],
            log=self._home / "log",
            account=_account(),
            parent_death_signal=signal.SIGTERM,
        )
        _wait_for(self.port, self._process, self._home / "log")

    def stop(self) -> None:
        """Stop at once, with its clients' connections."""
        processes.stop(self._process, signal.SIGTERM)

    def restart(self) -> None:
        """Stop and start on the same port."""
        self.stop()
        self.start()


@contextmanager
def running(database_url: str, servers: int = SERVERS) -> Iterator[PgBouncer]:
    """Run PgBouncer in front of the PostgreSQL of a URL, for all databases there.

    Args:
        servers: the connections to PostgreSQL for each database.
    """
    program, parts, account = executable(), urlsplit(database_url), _account()
    with tempfile.TemporaryDirectory(prefix="twofold-pgbouncer-") as folder:
        home = Path(folder)
        home.chmod(0o711)
        pooler = PgBouncer(program, home, processes.free_port())
        _write(home / "users.txt", f'"{parts.username}" "{parts.password}"\n', account)
        settings = _configuration(home, parts.port, pooler.port, servers)
        _write(home / "pgbouncer.ini", settings, account)
        pooler.start()
        try:
            yield pooler
        finally:
            pooler.stop()


@contextmanager
def pgbouncer(database_url: str, servers: int = SERVERS) -> Iterator[str]:
    """Run PgBouncer in front of a PostgreSQL, with ``POOLED_HOST`` for a name in this process.

    Yields the pooled URL of the same database; other databases of the server are there too.
    """
    parts = urlsplit(database_url)
    with _loopback_names(), running(database_url, servers) as pooler:
        yield urlunsplit(
            parts._replace(netloc=f"{parts.username}:{parts.password}@{POOLED_HOST}:{pooler.port}")
        )


def _configuration(home: Path, server_port: int | None, port: int, servers: int) -> str:
    # SCRAM on both sides needs the password itself in the file of users. Connections are used in
    # turn, so that what one client leaves in a connection reaches another client.
    return f"""
[databases]
* = host=127.0.0.1 port={server_port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {home / "users.txt"}
pool_mode = transaction
default_pool_size = {servers}
server_round_robin = 1
server_idle_timeout = 3
max_client_conn = 300
"""


def _account() -> processes.Account | None:
    if os.geteuid() != 0:
        return None
    # It refuses to run as root.
    nobody = pwd.getpwnam("nobody")
    return processes.Account(nobody.pw_uid, nobody.pw_gid)


def _write(path: Path, text: str, account: processes.Account | None) -> None:
    write_private(path, text)
    if account:
        os.chown(path, account.uid, account.gid)


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 10
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise RuntimeError(f"PgBouncer did not start: {processes.log_tail(log)}")


@contextmanager
def _loopback_names() -> Iterator[None]:
    """Resolve ``*.localhost`` to 127.0.0.1 in this process, as RFC 6761, 6.3 asks of resolvers.

    Debian's without systemd does not.
    """
    resolve = socket.getaddrinfo

    def resolve_here(host: Any, *arguments: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        is_local = isinstance(name, str) and name.endswith(".localhost")
        return resolve("127.0.0.1" if is_local else host, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", resolve_here)
        yield


_pooled: dict[str, str] = {}


@contextmanager
def redirected(database_url: str) -> Iterator[None]:
    """During the block, ``through`` returns URLs through a PgBouncer for this server."""
    with pgbouncer(database_url) as pooled_url:
        _pooled[urlsplit(database_url).netloc] = urlsplit(pooled_url).netloc
        yield
        _pooled.clear()


def through(database_url: str) -> str:
    """The pooled URL of a database whose server is ``redirected``, or else the same URL."""
    parts = urlsplit(database_url)
    return urlunsplit(parts._replace(netloc=_pooled.get(parts.netloc, parts.netloc)))
