"""The form of all log lines: JSON for machines, or text for a person.

Every logger of the process writes in it, those of uvicorn, Alembic and asyncio too. The line of a
request is written by ``api.telemetry.request_log``, in the same form.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import structlog
from structlog.typing import EventDict, WrappedLogger

from api.settings import Settings
from api.telemetry.build import build_of, instance_name
from persistence.instants import rfc3339

MAX_EVENT: Final = 4_000
"""Characters of a message that are written."""

MAX_FRAMES: Final = 30
"""Frames of an exception that are written, the innermost ones."""

MAX_CHAIN: Final = 5
"""Exceptions of a chain that are written."""


def log_config(settings: Settings, server_level: str | None = None) -> dict[str, Any]:
    """The configuration of the standard library's loggers: to standard error, in one form.

    Args:
        server_level: the lowest level of uvicorn's own messages; ``None`` for ``LOG_LEVEL``.
    """
    config = _config(settings.log_level, settings.logs_json, constants(settings))
    config["loggers"]["uvicorn"] = {"level": server_level or settings.log_level}
    return config


def command_log_config(read: Callable[[str], str | None]) -> dict[str, Any]:
    """The same for a command that reads no settings but a few variables.

    Args:
        read: the value of a variable.
    """
    level, form = (read("LOG_LEVEL") or "").upper(), (read("LOG_FORMAT") or "").lower()
    is_json = form == "json" if form else (read("ENVIRONMENT") or "").lower() == "production"
    # The command itself says what it did.
    level = level if level in logging.getLevelNamesMapping() else "WARNING"
    return _config(level, is_json, build_of(read("BUILD_COMMIT"))._asdict())


def _config(level: str, is_json: bool, build: dict[str, str]) -> dict[str, Any]:
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "line": {
                "()": "api.telemetry.log_lines.formatter",
                "is_json": is_json,
                "build": build,
            }
        },
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
        "root": {"level": level, "handlers": ["stderr"]},
        # It lists its plugins each time that it is imported.
        "loggers": {"alembic.runtime.plugins": {"level": "WARNING"}},
    }


def constants(settings: Settings) -> dict[str, str]:
    """What every line of a build has in common."""
    return build_of(settings.build_commit)._asdict()


def formatter(is_json: bool, build: dict[str, str]) -> logging.Formatter:
    """The formatter of the standard library's loggers.

    Args:
        build: what every line has in common.
    """
    same = {"instance": instance_name(), **build}

    def render_json(_: WrappedLogger, __: str, event: EventDict) -> str:
        if error := _error_in(event.pop("exc_info", None)):
            event["exception"] = frames(error)
        event.pop("stack_info", None)
        # ASCII: no character of a message can end a line, or move a terminal's cursor.
        # Without spaces, as the line of a request: one pattern finds both.
        return json.dumps({**event, **same}, default=str, separators=(",", ":"))

    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[_head],
        processors=[render_json if is_json else human_renderer()],
    )


def human_renderer() -> structlog.dev.ConsoleRenderer:
    """Text, with colours on a terminal."""
    return structlog.dev.ConsoleRenderer(
        colors=sys.stderr is not None and sys.stderr.isatty() and "NO_COLOR" not in os.environ,
        exception_formatter=structlog.dev.plain_traceback,
        pad_event_to=0,
    )


def _head(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """A record's time, level, logger, text and exception. What else it carries is left out."""
    record: logging.LogRecord = event["_record"]
    head = {
        "timestamp": rfc3339(datetime.fromtimestamp(record.created, UTC)),
        "level": record.levelname.lower(),
        "logger": record.name,
        "event": printable(_without_exceptions(str(event["event"])[:MAX_EVENT].strip())),
    }
    return head | ({"exc_info": record.exc_info} if record.exc_info else {})


def printable(text: str) -> str:
    """The text with an escape for each character that is not printable."""
    return text if text.isprintable() else "".join(map(_escaped, text))


def _escaped(character: str) -> str:
    return character if character.isprintable() else repr(character)[1:-1]


def _without_exceptions(text: str) -> str:
    """Without the messages of exceptions that asyncio quotes: they may contain a client's data."""
    return _QUOTED_EXCEPTION.sub(r"exception=\1(…)>", text)


_QUOTED_EXCEPTION: Final = re.compile(r"exception=(\w+)\(.*", re.DOTALL)


def frames(error: BaseException) -> str:
    """Types and places of an exception and its causes, without their messages.

    A message may contain what a client sent: a title, a variable, a part of a token.
    """
    lines: list[str] = []
    current: BaseException | None = error
    for _ in range(MAX_CHAIN):
        if current is None:
            break
        lines.append(f"{type(current).__module__}.{type(current).__qualname__}")
        places = traceback.extract_tb(current.__traceback__)[-MAX_FRAMES:]
        lines += [f"  {_short(place.filename)}:{place.lineno} in {place.name}" for place in places]
        current = current.__cause__ or (
            None if current.__suppress_context__ else current.__context__
        )
    return "\n".join(lines)


def _short(filename: str) -> str:
    return "/".join(Path(filename).parts[-3:])


def _error_in(exc_info: Any) -> BaseException | None:
    return exc_info[1] if isinstance(exc_info, tuple) else None
