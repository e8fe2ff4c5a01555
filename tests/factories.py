"""Realistic data, for tests that need some and do not depend on its values."""

# factory-boy's types do not export the names that its documentation uses.
# mypy: ignore-errors

from __future__ import annotations

import factory


class NewTask(factory.DictFactory):
    """The members of a task to create; no two have the same title."""

    title = factory.Sequence(lambda number: f"Water plant {number}")
    description = factory.Faker("sentence")
    completed = factory.Faker("pybool")
