"""What a program does with the client that openapi-python-client generates: a task from its
creation to its end, and an error. It must pass ``mypy --strict``, and run."""

from __future__ import annotations

import os

from tasks_client import AuthenticatedClient
from tasks_client.api.tasks import create_task, delete_task, head_task, list_tasks, update_task
from tasks_client.models import NewTask, Problem, ProblemType, Task, TaskChanges, TaskPage
from tasks_client.types import Unset


def main(client: AuthenticatedClient) -> None:
    """Create a task, list, change and delete it; be refused, and show why."""
    made = create_task.sync(client=client, body=NewTask(title="mow the lawn"))
    assert isinstance(made, Task)
    assert made.description is None

    page = list_tasks.sync(client=client, envelope=True, limit=1)
    assert isinstance(page, TaskPage)
    assert page.items == [made]

    changes = TaskChanges(completed=True)
    changed = update_task.sync(made.id, client=client, body=changes, if_match=f'"{made.version}"')
    assert isinstance(changed, Task)
    assert (changed.completed, changed.version) == (True, made.version + 1)
    assert changed.updated_at > changed.created_at

    stale = delete_task.sync(made.id, client=client, if_match=f'"{made.version}"')
    assert isinstance(stale, Problem)
    assert (stale.type_, stale.version) == (ProblemType.PRECONDITION_FAILED, changed.version)

    head = head_task.sync_detailed(made.id, client=client)
    assert (head.status_code, head.headers["ETag"]) == (200, f'"{changed.version}"')

    assert delete_task.sync_detailed(made.id, client=client).status_code == 204

    refused = create_task.sync(client=client, body=NewTask(title="\u2028"))
    assert isinstance(refused, Problem)
    print(text_of(refused))


def text_of(problem: Problem) -> str:
    """What is wrong with the members of a request."""
    errors = [] if isinstance(problem.errors, Unset) else problem.errors
    return "\n".join(f"{error.field}: {error.message}" for error in errors)


if __name__ == "__main__":
    main(AuthenticatedClient(os.environ["TWOFOLD_URL"], os.environ["TWOFOLD_TOKEN"]))
