"""What people send: the examples of bodies in OpenAPI.

Without them, tools would show every member with a made-up value.
"""

from __future__ import annotations

from typing import Final

from fastapi.openapi.models import Example

NEW: Final[dict[str, Example]] = {
    "title": {"summary": "A title", "value": {"title": "Water the plants"}},
    "description": {
        "summary": "A title and a description",
        "value": {"title": "Water the plants", "description": "The fern needs little."},
    },
}
CHANGES: Final[dict[str, Example]] = {
    "complete": {"summary": "Complete it", "value": {"completed": True}},
    "rename": {"summary": "Rename it", "value": {"title": "Water the basil"}},
}
BULK_CREATE: Final[dict[str, Example]] = {
    "two": {
        "summary": "Two tasks",
        "value": {"tasks": [{"title": "Water the plants"}, {"title": "Sweep the floor"}]},
    }
}
BULK_UPDATE: Final[dict[str, Example]] = {
    "complete": {
        "summary": "Complete three tasks",
        "value": {"task_ids": [1, 2, 3], "changes": {"completed": True}},
    }
}
BULK_DELETE: Final[dict[str, Example]] = {
    "three": {"summary": "Three tasks", "value": {"task_ids": [1, 2, 3]}}
}
