"""Data that looks like people's own, for tests that need some and don't care which."""

# factory-boy's types do not export the names that its documentation uses.
# mypy: ignore-errors

from __future__ import annotations

import factory


class NewTask(factory.DictFactory):
    """The members of a task to create; no two have the same title."""

    title = factory.Sequence(lambda number: f"Water plant {number}")
    description = factory.Faker("sentence")
    completed = factory.Faker("pybool")
