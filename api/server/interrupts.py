"""Ctrl-C in a terminal, which signals every process of `twofold` at the same time."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interrupt_once() -> Iterator[None]:
    """Raise ``KeyboardInterrupt`` at the first Ctrl-C, and ignore further ones.

    Otherwise a second one would interrupt what a command does to end, with a traceback. After the
    block its process ends: SIGTERM and SIGHUP are ignored as well then, if the block handled them.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, _interrupt)
    try:
        yield
    finally:
        # After a Ctrl-C, or a server with a handler of its own, the process ends. Python would put
        # the system's handler in place before that, which kills the process.
        if signal.getsignal(signal.SIGINT) is _interrupt:
            signal.signal(signal.SIGINT, before)
        else:
            ignore_to_the_end(signal.SIGINT)
        for name in "SIGTERM", "SIGHUP":
            number = getattr(signal, name, None)
            if number is not None and callable(signal.getsignal(number)):
                ignore_to_the_end(number)


def _interrupt(number: int, _: FrameType | None) -> None:
    signal.signal(number, do_nothing)
    raise KeyboardInterrupt


def do_nothing(number: int, frame: FrameType | None) -> None:
    """Handle a signal by nothing.

    Python prints a traceback of a signal that arrives in the moment in which ``SIG_IGN`` becomes
    its handler.
    """


def ignore_to_the_end(number: int) -> None:
    """Ignore a signal until the process ends, and while Python ends."""
    signal.signal(number, do_nothing)
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    # Calls what handles a signal that has arrived; a further one cannot.
    signal.signal(number, signal.SIG_IGN)


@contextmanager
def interrupts_deferred() -> Iterator[None]:
    """Start worker processes that handle a Ctrl-C only when they call ``accept_interrupts``.

    Until then the server in them has no handler, and Python's own prints a traceback. The current
    process handles a Ctrl-C after the block.
    """
    if sys.platform == "win32":
        yield
        return
    from multiprocessing import resource_tracker

    # multiprocessing starts it with the first process, and unblocks the signal by that.
    resource_tracker.ensure_running()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        accept_interrupts()


def accept_interrupts() -> None:
    """Handle a Ctrl-C from now on, and one that arrived before."""
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
