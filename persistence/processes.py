"""Processes that end with their parent, with an environment and an account of their own.

Knows nothing of what they serve.
"""

from __future__ import annotations

import ctypes
import functools
import os
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
from typing import IO

STOP_PATIENCE = 20.0
"""Seconds that a process has to follow a signal before the next, at last SIGKILL."""


@dataclass(frozen=True)
class Account:
    """Whom root runs PostgreSQL as, which refuses to be root itself."""

    uid: int
    gid: int


def write_private(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w") as file:
        file.write(text)


def die_with_parent(parent: int, death: Signals) -> None:
    """Make Linux send this process `death` when `parent`, its parent, ends; elsewhere do nothing.

    The kernel watches the thread that started this process, not only its parent.
    """
    if sys.platform == "linux":
        _tie(_libc(), parent, death)


def _tie(libc: ctypes.CDLL, parent: int, death: Signals) -> None:
    pr_set_pdeathsig = 1
    libc.prctl(pr_set_pdeathsig, death)
    if os.getppid() != parent:  # It ended before we asked.
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
    on_parents_death: Signals,
) -> subprocess.Popen[bytes]:
    """Start a server in a session of its own: Ctrl-C is for us, and we stop it when we are done."""
    tied = None
    if sys.platform == "linux":
        # Looked up here: between fork and exec the less happens the better.
        tied = functools.partial(_tie, _libc(), os.getpid(), on_parents_death)
    with ExitStack() as stack:
        given = stack.enter_context(tempfile.TemporaryFile())
        given.write(stdin.encode())
        given.seek(0)
        output: IO[bytes] | int = subprocess.DEVNULL
        if log:
            log.unlink(missing_ok=True)
            write_private(log, "")
            output = stack.enter_context(log.open("ab"))
        return subprocess.Popen(
            command,
            stdin=given,
            stdout=output,
            stderr=output,
            cwd="/",
            env=_environment(),
            start_new_session=True,
            preexec_fn=tied,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )


def run(
    command: Sequence[str | Path], account: Account | None
) -> subprocess.CompletedProcess[bytes]:
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
    # Nothing of ours: PGDATA, PGPORT or a locale that does not exist would be obeyed.
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


def stop(process: subprocess.Popen[bytes], *signals: Signals) -> None:
    for wanted in (*signals, signal.SIGKILL):
        process.send_signal(wanted)
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_PATIENCE)
            return


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def end_of(log: Path) -> str:
    return log.read_text(errors="replace")[-2000:].strip()
