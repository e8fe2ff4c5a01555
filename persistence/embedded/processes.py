"""Child processes with a clean environment, their own account, and a bound life span.

Knows nothing about what the processes serve.
"""

from __future__ import annotations

import ctypes
import functools
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from signal import Signals
from typing import IO, Final

from persistence.embedded.private_files import write_private

STOP_TIMEOUT: Final = 20.0
"""Seconds that a process has to end after each signal, before the next one is sent."""

_LOG_TAIL: Final = 2000
"""Characters of a log that an error message quotes."""


@dataclass(frozen=True)
class Account:
    """The user and the group that a process runs as."""

    uid: int
    gid: int


def die_with_parent(parent: int, death_signal: Signals) -> None:
    """Have Linux send this process a signal when its parent ends; do nothing elsewhere.

    The kernel watches the thread of the parent that started this process (prctl(2),
    PR_SET_PDEATHSIG).

    Args:
        parent: the process id of the parent. If that process has already ended, this one exits.
        death_signal: the signal to send.
    """
    if sys.platform == "linux":
        _set_parent_death_signal(_libc(), parent, death_signal)


def _set_parent_death_signal(libc: ctypes.CDLL, parent: int, death_signal: Signals) -> None:
    pr_set_pdeathsig = 1
    libc.prctl(pr_set_pdeathsig, death_signal)
    if os.getppid() != parent:  # The parent ended before the call.
        os._exit(1)


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)


def spawn(
    command: Sequence[str | Path],
    *,
    stdin: str = "",
    log: Path | None = None,
    account: Account | None = None,
    parent_death_signal: Signals,
) -> subprocess.Popen[bytes]:
    """Start a server in its own session, so that Ctrl-C in the terminal does not reach it.

    Args:
        command: the program and its arguments.
        stdin: the text on its standard input.
        log: the file for its output, written anew; without it, output is discarded.
        account: the account to run as; without it, the current one.
        parent_death_signal: the signal that Linux sends it when this process ends.
    """
    before_exec = None
    if sys.platform == "linux":
        # libc is loaded here: as little as possible may happen between fork and exec.
        before_exec = functools.partial(
            _set_parent_death_signal, _libc(), os.getpid(), parent_death_signal
        )
    with ExitStack() as stack:
        input_file = stack.enter_context(tempfile.TemporaryFile())
        input_file.write(stdin.encode())
        input_file.seek(0)
        output: IO[bytes] | int = subprocess.DEVNULL
        if log:
            log.unlink(missing_ok=True)
            write_private(log, "")
            output = stack.enter_context(log.open("ab"))
        return subprocess.Popen(
            command,
            stdin=input_file,
            stdout=output,
            stderr=output,
            cwd="/",
            env=_environment(),
            start_new_session=True,
            preexec_fn=before_exec,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )


def run(
    command: Sequence[str | Path], account: Account | None
) -> subprocess.CompletedProcess[bytes]:
    """Run a program to its end and collect its output, standard error included."""
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd="/",
        env=_environment(),
        check=False,
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
    )


def _environment() -> dict[str, str]:
    # Nothing else is inherited: the servers would obey PGDATA, PGPORT or a missing locale.
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


def stop(process: subprocess.Popen[bytes], *signals: Signals) -> None:
    """Send the signals one after another, then SIGKILL, until the process has ended."""
    for number in (*signals, signal.SIGKILL):
        process.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_TIMEOUT)
            return


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on at the moment; at each call another one.

    It is outside the range that systems use for outgoing connections, of which one could take it
    before a server does, or while a server is restarted.
    """
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in _chosen:
                _chosen.add(port)
                return port


_chosen: Final[set[int]] = set()


def log_tail(log: Path) -> str:
    """The last characters of a log file, for an error message."""
    return log.read_text(errors="replace")[-_LOG_TAIL:].strip()
