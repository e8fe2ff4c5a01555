"""What is stored of what a client sent, and which tasks pass a filter; part of the model."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from tests.model_results import (
    WHITE_SPACE,
    Task,
)


def stored(members: dict[str, Any]) -> dict[str, Any]:
    return {name: STORED[name](value) for name, value in members.items() if name in STORED}


def canonical_due(text: str | None) -> str | None:
    if text is None or len(text) == 10:
        return text
    offset = "Z" if text[-1] in "Zz" else text[-6:]
    seconds, _, fraction = text.removesuffix(text[-len(offset) :]).upper().partition(".")
    moment = datetime.fromisoformat(f"{seconds}.{fraction[:6].ljust(6, '0')}{offset}")
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def canonical_tags(tags: list[str]) -> list[str]:
    kept: list[str] = []
    for tag in (each.strip(WHITE_SPACE) for each in tags):
        if tag.casefold() not in [each.casefold() for each in kept]:
            kept.append(tag)
    return kept


NEW: Final[dict[str, Any]] = {
    "description": None,
    "completed": False,
    "due": None,
    "priority": "none",
    "tags": [],
}
"""What a new task has where a member is absent."""

STORED: Final[dict[str, Callable[[Any], Any]]] = {
    "title": lambda title: title.strip(WHITE_SPACE),
    "description": lambda text: text if text and text.strip(WHITE_SPACE) else None,
    "completed": lambda completed: completed,
    "due": canonical_due,
    "priority": lambda priority: priority,
    "tags": canonical_tags,
}


def begin_of(due: str, zone: str) -> int:
    """When a day begins in a zone, or the moment: microseconds since the day before year 1."""
    moment = datetime.fromisoformat(due.removesuffix("Z"))
    offset = ZoneInfo(zone).utcoffset(moment) if len(due) == 10 else timedelta()
    assert offset is not None
    return (moment - datetime.min - offset) // timedelta(microseconds=1)


def passes(task: Task, query: dict[str, Any]) -> bool:
    """Whether a task passes a filter. The model knows of its times that they are now."""
    sent = {name: value for name, value in query.items() if value is not None}
    zone, text = sent.get("zone", "UTC"), f"{task.title}\n{task.description or ''}"
    keys = {tag.casefold() for tag in task.tags}
    claims = {
        "completed": lambda completed: task.completed is completed,
        "priority": lambda priorities: task.priority in priorities,
        "tags": lambda tags: {tag.strip(WHITE_SPACE).casefold() for tag in tags} <= keys,
        "has_due": lambda has_due: (task.due is not None) is has_due,
        "due_from": lambda bound: is_due_before(task.due, bound, zone) is False,
        "due_before": lambda bound: is_due_before(task.due, bound, zone) is True,
        "q": lambda q: all(word in folded(text) for word in folded(q).split()),
        "created_from": lambda moment: moment < NOW,
        "created_before": lambda moment: moment > NOW,
        "updated_from": lambda moment: moment < NOW,
        "updated_before": lambda moment: moment > NOW,
    }
    return all(claim(sent[name]) for name, claim in claims.items() if name in sent)


NOW: Final = "2026"
"""Between the past and the future of the filters that are tried."""


def is_due_before(due: str | None, bound: str, zone: str) -> bool | None:
    """Whether a task is due before a day or moment, as the zone has it; ``None``: it never is."""
    bound = canonical_due(bound) or ""
    return None if due is None else begin_of(due, zone) < begin_of(bound, zone)


def folded(text: str) -> str:
    """Text without case, accents and width."""
    letters = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).casefold())
    return "".join(each for each in letters if unicodedata.category(each)[0] != "M")
