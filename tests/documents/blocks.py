"""The blocks of a document, and how a shown response is compared with a live one."""

from __future__ import annotations

import json
import re
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_BLOCK: Final = re.compile(r"^( *)```([^\n]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)

INSTANT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?Z")
ID: Final = re.compile(r"[0-9a-f]{32}")
VOLATILE: Final = {"cursor", "endCursor", "startCursor", "next_cursor", "reset", "retry_after"}
"""Members, and parameters of headers, that differ in each run."""


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block.

    Attributes:
        language: the first word behind the fence.
        role: the second: ``response`` (of the block before), ``variables``, or nothing.
        span: where its text is in the document.
    """

    language: str
    role: str
    text: str
    span: tuple[int, int]

    @property
    def first_line(self) -> str:
        return self.text.strip().split("\n")[0]


def blocks(document: Path) -> list[Block]:
    """The blocks of a document, in order, without their indentation."""
    return [
        Block(*f"{match[2]}  ".split(" ")[:2], textwrap.dedent(match[3]), match.span(3))
        for match in _BLOCK.finditer(document.read_text(encoding="utf-8"))
    ]


@dataclass(frozen=True, slots=True)
class ShownResponse:
    """What a client sees: a status and headers if they are shown, and a JSON document or nothing.

    Attributes:
        status: the status line; empty if it is not shown.
    """

    status: str
    headers: dict[str, str]
    body: Any

    @classmethod
    def parse(cls, text: str) -> ShownResponse:
        """Read the output of ``curl``, with ``-i`` or without."""
        text = text.replace("\r\n", "\n")
        status, headers = "", {}
        if text.startswith("HTTP/"):
            head, _, text = text.partition("\n\n")
            status, *lines = head.strip().split("\n")
            headers = {
                name.lower(): value.strip()
                for name, _, value in (line.partition(":") for line in lines)
            }
        return cls(status, headers, json.loads(text) if text.strip() else None)

    def like(self, shown: ShownResponse) -> ShownResponse:
        """This response with no more than what ``shown`` has: some of the headers."""
        headers = {name: self.headers.get(name, "") for name in shown.headers}
        return ShownResponse(self.status if shown.status else "", headers, self.body)

    def stable(self) -> ShownResponse:
        """Without what differs in each run."""
        headers = {name: _stable_header(name, value) for name, value in self.headers.items()}
        return ShownResponse(self.status, headers, _stable(self.body))

    def write(self) -> str:
        """The text of a block."""
        body = f"{_format(self.body)}\n" if self.body is not None else ""
        if not self.status:
            return body
        lines = [self.status, *(f"{name}: {value}" for name, value in self.headers.items())]
        return "\n".join(lines) + "\n" + (f"\n{body}" if body else "")


def _stable_header(name: str, value: str) -> str:
    if name in ("x-ratelimit-reset", "retry-after"):
        return "…"
    value = re.sub(r"\bt=\d+", "t=…", value)
    return ID.sub("…", re.sub(r"cursor=[\w-]+", "cursor=…", value))


def _stable(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: "…" if name in VOLATILE and item is not None else _stable(item)
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [_stable(item) for item in value]
    return ID.sub("…", INSTANT.sub("…", value)) if isinstance(value, str) else value


def _format(value: Any, indent: str = "") -> str:
    """JSON with each object and array that fits in one line."""
    flat = json.dumps(value, ensure_ascii=False)
    if len(indent) + len(flat) <= 100 or not isinstance(value, dict | list):
        return flat
    inner = indent + "  "
    if isinstance(value, dict):
        lines = [f"{json.dumps(name)}: {_format(item, inner)}" for name, item in value.items()]
    else:
        lines = [_format(item, inner) for item in value]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return f"{opening}\n" + ",\n".join(inner + line for line in lines) + f"\n{indent}{closing}"
