"""The parent process of several workers: replaces workers that die, and all of them on SIGHUP."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from socket import socket
from typing import Final

from uvicorn import Config
from uvicorn.supervisors import Multiprocess

from api.dotenv import DotenvVariables
from api.server.interrupts import interrupts_deferred
from api.settings import Settings, SettingsError

_log = logging.getLogger("twofold")

# Seconds that a worker has to start when it replaces another one. uvicorn allows 5 s, which is not
# enough on a busy machine.
START_TIMEOUT: Final = 30


class Workers(Multiprocess):
    """uvicorn's supervisor, with a longer start timeout and settings that SIGHUP can change.

    New settings are used only if they are valid and a worker has started with them. A second
    signal to stop ends graceful shutdown in the workers.

    Args:
        config: uvicorn's configuration.
        sockets: what the workers listen on.
        dotenv: the variables of `.env` in the environment, from which workers read their settings.
        configure: makes uvicorn's configuration from new settings.
    """

    def __init__(
        self,
        config: Config,
        sockets: list[socket],
        dotenv: DotenvVariables,
        configure: Callable[[Settings], Config],
    ) -> None:
        super().__init__(config, sockets)
        self._dotenv = dotenv
        self._configure = configure

    def init_processes(self) -> None:
        """Start the workers."""
        with interrupts_deferred():
            super().init_processes()

    def keep_subprocess_alive(self) -> None:
        """Replace workers that have died."""
        with interrupts_deferred():
            super().keep_subprocess_alive()

    def handle_hup(self) -> None:
        """Read the settings again, and replace all workers."""
        try:
            settings = self._dotenv.reload()
        except SettingsError as error:
            _log.error(
                "SIGHUP: the workers keep their settings, because the new ones are invalid: %s",
                " ".join(error.problems),
            )
            return
        config, workers = self.config, set(self.processes)
        self.config = self._configure(settings)
        super().handle_hup()
        if not workers.isdisjoint(self.processes):
            # Otherwise the next replacement of a dead worker would fail, and stop the server.
            self._dotenv.restore()
            self.config = config
            config.configure_logging()
            _log.warning(
                "SIGHUP: the previous settings are in use again, because a worker did not start"
                " with the new ones"
            )

    def restart_all(self) -> None:
        """Replace the workers one by one, each when its successor is ready."""
        timeout = self.config.timeout_worker_healthcheck
        self.config.timeout_worker_healthcheck = START_TIMEOUT
        with interrupts_deferred():
            super().restart_all()
        self.config.timeout_worker_healthcheck = timeout

    def join_all(self) -> None:
        """Wait until all workers have ended; pass further signals on to them."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.terminate_all())
        super().join_all()
