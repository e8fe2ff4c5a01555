"""The log of an app in this process, as a reader of JSON lines sees it."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest


def has_exception(text: str) -> bool:
    """Whether a log has an exception: a traceback, or its places in a line of JSON."""
    return "Traceback" in text or '"exception":' in text


class LogLines:
    """What was written to standard error.

    Args:
        capture: pytest's fixture ``capfd``.
    """

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self._capture = capture
        capture.readouterr()

    def all(self) -> list[dict[str, Any]]:
        """The lines since the last call."""
        return [json.loads(line) for line in self._capture.readouterr().err.splitlines()]

    def requests(self) -> list[dict[str, Any]]:
        """Those of requests since the last call."""
        return [line for line in self.all() if line["logger"] == "twofold.request"]


def records_of(caplog: pytest.LogCaptureFixture, logger: str) -> list[logging.LogRecord]:
    """What one logger wrote. Timers that earlier tests have started may write by others."""
    return [record for record in caplog.records if record.name == logger]
