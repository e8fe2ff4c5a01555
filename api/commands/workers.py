"""The parent of several workers: it replaces those that die, and all of them on SIGHUP."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from socket import socket
from typing import Final

from uvicorn import Config
from uvicorn.supervisors import Multiprocess

from api.commands.lent import Lent
from api.settings import Settings, SettingsError

_log = logging.getLogger("twofold")

# How long a worker may take to start that is to replace another. uvicorn gives up after the 5 s in
# which one has to say that it lives, and so does a busy machine.
START_PATIENCE: Final = 30


class Workers(Multiprocess):
    """uvicorn's, but more patient, and a second signal ends the workers' drain as well.

    Only settings that can be used, and with which a worker has started, reach them.

    Args:
        lent: where the workers find what `.env` says.
        configure: their configuration under new settings.
    """

    def __init__(
        self,
        config: Config,
        sockets: list[socket],
        lent: Lent,
        configure: Callable[[Settings], Config],
    ) -> None:
        super().__init__(config, sockets)
        self._lent = lent
        self._configure = configure

    def handle_hup(self) -> None:
        """Read the settings anew, and replace the workers by such as have them."""
        try:
            settings = self._lent.renew()
        except SettingsError as error:
            _log.error(
                "The workers serve on as they are, for the settings cannot be used: %s",
                " ".join(error.problems),
            )
            return
        config, workers = self.config, set(self.processes)
        self.config = self._configure(settings)
        super().handle_hup()
        if not workers.isdisjoint(self.processes):
            # Or the next that dies would be replaced by one that cannot start, and end us all.
            self._lent.undo()
            self.config = config
            config.configure_logging()
            _log.warning(
                "The settings are those of before again: a worker did not start with the new"
            )

    def restart_all(self) -> None:
        """Replace each worker, as soon as its successor is ready."""
        usual = self.config.timeout_worker_healthcheck
        self.config.timeout_worker_healthcheck = START_PATIENCE
        super().restart_all()
        self.config.timeout_worker_healthcheck = usual

    def join_all(self) -> None:
        """Wait for the workers to end; a further signal is for them."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.terminate_all())
        super().join_all()
