"""The parent process of several workers: replaces workers that die, and all of them on SIGHUP."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait
from socket import socket, socketpair
from typing import Final

from uvicorn import Config
from uvicorn.config import STARTUP_FAILURE

from api.dotenv import DotenvVariables
from api.server.interrupts import interrupts_deferred
from api.server.worker import START_TIMEOUT, Worker
from api.settings import Settings, SettingsError

CHECK_SECONDS: Final = 0.5
"""Seconds between two checks of the workers; their ends and signals are noticed at once."""

SHORT_LIFE_SECONDS: Final = 10.0
"""A worker that ends sooner than so many seconds after its start is replaced after a pause."""

SHORT_LIVES: Final = 5
"""After so many short lives in a row the parent process gives up, unless another worker serves."""

MAX_PAUSE_SECONDS: Final = 30.0
"""The longest pause before a worker is replaced. The pauses begin with 0.5 s and double."""

_log = logging.getLogger("twofold")

# Windows has no SIGHUP, and SIGBREAK in place of SIGTERM.
_HANGUP: Final[int | None] = getattr(signal, "SIGHUP", None)
_SIGNALS: Final[list[int]] = [
    getattr(signal, name)
    for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGBREAK")
    if hasattr(signal, name)
]


class Workers:
    """Worker processes on one listener.

    New settings are used only if they are valid and a worker has started with them.

    Args:
        config: uvicorn's configuration.
        listener: what the workers listen on. It is closed when they are told to stop.
        dotenv: the variables of `.env` in the environment, from which workers read their settings.
        configure: makes uvicorn's configuration from new settings.
    """

    def __init__(
        self,
        config: Config,
        listener: socket,
        dotenv: DotenvVariables,
        configure: Callable[[Settings], Config],
    ) -> None:
        self._config = config
        self._listener = listener
        self._dotenv = dotenv
        self._configure = configure
        self._workers: list[Worker] = []
        self._signals: list[int] = []
        # The workers that have ended, and when each is replaced.
        self._pauses: dict[Worker, float] = {}
        self._short_lives = 0
        self._exit_code = 0

    def run(self) -> int:
        """Serve until a signal stops this process, or no worker can start.

        Returns:
            The exit code of this process.
        """
        with self._signals_queued() as wakeup:
            self._workers = [self._start() for _ in range(self._config.workers)]
            while not (self._must_stop() or self._exit_code):
                self._wait(wakeup)
                if _HANGUP in self._signals:
                    self._signals.remove(_HANGUP)
                    self._reload()
                self._keep_all_alive()
            self._stop(wakeup)
        return self._exit_code

    @contextmanager
    def _signals_queued(self) -> Iterator[socket]:
        """Queue signals. The socket becomes readable at each."""
        readable, writable = socketpair()
        readable.setblocking(False)
        writable.setblocking(False)
        # These handlers stay: a further Ctrl-C must not interrupt how the process ends.
        for number in _SIGNALS:
            signal.signal(number, lambda number, _: self._signals.append(number))
        with readable, writable:
            signal.set_wakeup_fd(writable.fileno(), warn_on_full_buffer=False)
            try:
                yield readable
            finally:
                signal.set_wakeup_fd(-1)

    def _wait(self, wakeup: socket) -> None:
        """Wait for a signal, for the end of a worker, or until the next check."""
        running = [each.process.sentinel for each in self._workers if each.process.is_alive()]
        if wakeup in wait([wakeup, *running], CHECK_SECONDS):
            wakeup.recv(4096)

    def _must_stop(self) -> bool:
        return any(number != _HANGUP for number in self._signals)

    def _start(self) -> Worker:
        with interrupts_deferred():
            return Worker(self._config, self._listener)

    # --- A worker ends ------------------------------------------------------------------------

    def _keep_all_alive(self) -> None:
        for index, worker in enumerate(self._workers):
            self._keep_alive(index, worker)

    def _keep_alive(self, index: int, worker: Worker) -> None:
        """Notice that a worker has ended or hangs, and replace it after a pause."""
        if worker not in self._pauses:
            self._kill_if_hung(worker)
            if worker.process.is_alive():
                return
            self._pauses[worker] = time.monotonic() + self._pause_after(worker)
        if time.monotonic() >= self._pauses[worker] and not self._exit_code:
            del self._pauses[worker]
            self._workers[index] = self._start()

    def _kill_if_hung(self, worker: Worker) -> None:
        """Kill a worker that does not answer: it would hold up a reload or the end for ever."""
        worker.check()
        if worker.is_hung and worker.process.is_alive():
            _log.error("worker %d does not answer, and is killed", worker.process.pid)
            worker.process.kill()
            worker.process.join()

    def _pause_after(self, worker: Worker) -> float:
        """Log the end of a worker. Returns the seconds until it is replaced."""
        is_short = time.monotonic() - worker.started_at < SHORT_LIFE_SECONDS
        self._short_lives = self._short_lives + 1 if is_short else 0
        if worker.process.exitcode == 0:
            _log.info("worker %d %s", worker.process.pid, worker.describe_end())
        else:
            stage = "" if worker.has_served else " before it could serve"
            _log.error("worker %d %s%s", worker.process.pid, worker.describe_end(), stage)
        if self._is_hopeless(worker):
            self._exit_code = STARTUP_FAILURE
            return 0
        if not self._short_lives:
            return 0
        pause: float = min(MAX_PAUSE_SECONDS, CHECK_SECONDS * 2 ** (self._short_lives - 1))
        _log.warning("the next worker starts in %g s", pause)
        return pause

    def _is_hopeless(self, ended: Worker) -> bool:
        """Whether no worker serves, and another one would not serve either. Logs the reason."""
        others = [each for each in self._workers if each is not ended and each not in self._pauses]
        if any(each.has_served and each.process.is_alive() for each in others):
            return False
        if (ended.process.exitcode or 0) > 0 and not ended.has_served:
            _log.error("stopping: no worker serves, and this one could not start")
        elif self._short_lives >= SHORT_LIVES:
            _log.error(
                "stopping: no worker serves, and %d in a row ended within %g s of their start",
                self._short_lives, SHORT_LIFE_SECONDS,
            )  # fmt: skip
        else:
            return False
        return True

    # --- SIGHUP -------------------------------------------------------------------------------

    def _reload(self) -> None:
        """Read the settings again, and replace all workers."""
        try:
            settings = self._dotenv.reload()
        except SettingsError as error:
            _log.error(
                "SIGHUP: the workers keep their settings, because the new ones are invalid: %s",
                " ".join(error.problems),
            )
            return
        config, self._config = self._config, self._configure(settings)
        if not self._replace_all():
            # Otherwise the next replacement of a dead worker would fail, and stop the server.
            self._dotenv.restore()
            self._config = config
            config.configure_logging()
            _log.warning(
                "SIGHUP: the previous settings are in use again, because a worker did not start"
                " with the new ones"
            )

    def _replace_all(self) -> bool:
        """Replace the workers one by one, each when its successor serves.

        Returns:
            Whether a new worker has started with the settings.
        """
        for index, old in enumerate(self._workers):
            new = self._start()
            if not self._until_serving(new):
                if self._must_stop():
                    self._workers.append(new)
                    return True
                new.process.kill()
                new.process.join()
                return index > 0
            self._workers[index] = new
            self._pauses.pop(old, None)
            old.stop(with_all=False)
            # A signal to stop is for the old worker as well.
            while old.process.is_alive():
                old.process.join(CHECK_SECONDS)
                if self._must_stop():
                    self._workers.append(old)
                    return True
                self._kill_if_hung(old)
                self._keep_all_alive()
            self._log_end(old)
        self._short_lives = 0
        return True

    def _until_serving(self, worker: Worker) -> bool:
        """Wait until a worker serves. Returns whether it does."""
        while worker.process.is_alive() and not self._must_stop():
            worker.check()
            if worker.has_served:
                return True
            if time.monotonic() - worker.started_at > START_TIMEOUT:
                _log.error("worker %d was not ready within %g s", worker.process.pid, START_TIMEOUT)
                return False
            time.sleep(0.05)
        return False

    # --- The end ------------------------------------------------------------------------------

    def _stop(self, wakeup: socket) -> None:
        """Stop all workers, and wait until they have ended; pass further signals on to them."""
        # Before the workers do. Otherwise connections would wait where nobody accepts them.
        self._listener.close()
        self._signals.clear()
        self._stop_workers()
        while any(worker.process.is_alive() for worker in self._workers):
            self._wait(wakeup)
            if self._must_stop():
                self._signals.clear()
                self._stop_workers()
            for worker in self._workers:
                self._kill_if_hung(worker)
        for worker in self._workers:
            self._log_end(worker)

    def _stop_workers(self) -> None:
        for worker in self._workers:
            worker.stop(with_all=True)

    def _log_end(self, worker: Worker) -> None:
        """Log the end of a worker that was told to stop, if it did not end normally."""
        code = worker.process.exitcode
        # Until it serves, it has no handler of the signal.
        is_normal = code == 0 or (code == -signal.SIGTERM and not worker.has_served)
        if not is_normal and worker not in self._pauses:
            _log.error("worker %d %s", worker.process.pid, worker.describe_end())
