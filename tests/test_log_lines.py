"""The form of log lines that the standard library's loggers write."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest

from api.telemetry.log_lines import MAX_CHAIN, MAX_EVENT, MAX_FRAMES, formatter, frames

BUILD = {"version": "1.2.3", "commit": "abc1234"}


def record_of(message: str, error: BaseException | None = None, **extra: Any) -> logging.LogRecord:
    exc_info = (type(error), error, error.__traceback__) if error else None
    record = logging.LogRecord("asyncio", logging.ERROR, "file", 1, message, (), exc_info)
    vars(record).update(extra)
    return record


def as_json(record: logging.LogRecord) -> dict[str, Any]:
    text = formatter(True, BUILD).format(record)
    assert text.isascii()
    assert text.isprintable()
    line: dict[str, Any] = json.loads(text)
    return line


def failing() -> Exception:
    """An exception with a cause, both with secrets in their messages."""
    try:
        try:
            raise KeyError("the secret")
        except KeyError as error:
            raise ValueError("another secret") from error
    except ValueError as error:
        return error


@pytest.mark.parametrize(
    "text", ["one\ntwo", "one\rtwo", "\x1b[31mred", "\u2028", "\x00", "\ud800"]
)
@pytest.mark.parametrize("is_json", [True, False])
def test_a_message_cannot_end_a_line(text: str, is_json: bool) -> None:
    line = formatter(is_json, BUILD).format(record_of(f"before {text} after"))

    assert line.encode()
    assert line.isprintable()


def test_a_long_message_is_cut() -> None:
    assert len(as_json(record_of("x" * 100_000))["event"]) == MAX_EVENT


def test_what_a_record_carries_besides_its_message_is_left_out() -> None:
    line = as_json(record_of("hello", color_message="x", title="a secret"))

    assert line.keys() == {
        "timestamp", "level", "logger", "event", "instance", "version", "commit",
    }  # fmt: skip


def test_an_exception_is_types_and_places_without_messages() -> None:
    line = as_json(record_of("failed", failing()))

    first, place, second, _ = line["exception"].split("\n")
    assert (first, second) == ("builtins.ValueError", "builtins.KeyError")
    assert "tests/test_log_lines.py:" in place
    assert "secret" not in json.dumps(line)


def test_for_a_person_an_exception_has_its_messages() -> None:
    text = formatter(False, BUILD).format(record_of("failed", failing()))

    assert "ValueError: another secret" in text
    assert "KeyError: 'the secret'" in text


def test_an_exception_is_bounded() -> None:
    def recurse(depth: int) -> None:
        if depth:
            recurse(depth - 1)
        raise KeyError

    error: Exception | None = None
    for _ in range(20):
        try:
            try:
                recurse(200)
            except KeyError as deep:
                raise deep from error
        except KeyError as chained:
            error = chained

    assert error
    assert len(frames(error).splitlines()) <= MAX_CHAIN * (MAX_FRAMES + 1)


async def test_an_exception_that_nobody_retrieved_is_logged_without_its_message(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fail() -> None:
        raise KeyError("the secret")

    task = asyncio.create_task(fail())
    await asyncio.wait([task])
    asyncio.get_running_loop().call_exception_handler(
        {"message": "Task exception was never retrieved", "future": task}
    )
    task.exception()

    [record] = caplog.records
    assert "the secret" in record.getMessage()
    line = as_json(record)
    assert "Task exception was never retrieved" in line["event"]
    assert "exception=KeyError(…)>" in line["event"]
    assert "the secret" not in json.dumps(line)
