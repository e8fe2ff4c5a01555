"""`docs/limits.md`: every limit that a client can meet, with the numbers that the code enforces."""

# ruff: noqa: E501 - lines of the document, which has longer ones.

from __future__ import annotations

from typing import Any, Final

from api.auth.bearer_token import MAX_TOKEN
from api.charges import TASKS_A_WRITE
from api.commands.serve import KEEP_ALIVE_SECONDS, SLOW_CLIENT_SECONDS
from api.errors import RETRY_AFTER
from api.http.body import BODY_SECONDS, MAX_BODY
from api.live import hub, stream
from api.rate_limit import response_slots
from api.server.uvicorn_protocol import MAX_HEADERS, MAX_PIPELINED
from api.settings import Settings
from graphql_schema.compiled import variables
from graphql_schema.compiled.limits import Limits
from graphql_schema.connections import DEFAULT_PAGE_SIZE
from graphql_schema.rules import MAX_NESTED_ALIASES
from persistence import pool, reported_values, validation
from persistence.database import MAX_CONCURRENT
from persistence.tables import (
    DESCRIPTION_LENGTH,
    KEY_LENGTH,
    MAX_TAGS,
    TAG_LENGTH,
    TITLE_LENGTH,
)
from persistence.task_inputs import MAX_NEW, MAX_PAGE, MAX_VALUES, QUERY_LENGTH


def generate_limits() -> str:
    """The document, with a line break at its end."""
    return _TEXT.format_map(_numbers() | _defaults())


def _numbers() -> dict[str, str]:
    documents = {f"document_{name}": getattr(_DOCUMENT, name) for name in Limits.__slots__}
    numbers: dict[str, Any] = documents | {
        "title": TITLE_LENGTH,
        "description": DESCRIPTION_LENGTH,
        "tags": MAX_TAGS,
        "tag": TAG_LENGTH,
        "query": QUERY_LENGTH,
        "values": MAX_VALUES,
        "page": MAX_PAGE,
        "default_page": DEFAULT_PAGE_SIZE,
        "new": MAX_NEW,
        "tasks_a_write": TASKS_A_WRITE,
        "key": KEY_LENGTH,
        "token": MAX_TOKEN,
        "body": MAX_BODY // 1024,
        "body_seconds": BODY_SECONDS,
        "headers": MAX_HEADERS // 1024,
        "pipelined": MAX_PIPELINED,
        "idle": KEEP_ALIVE_SECONDS,
        "slow": SLOW_CLIENT_SECONDS,
        "nested_aliases": MAX_NESTED_ALIASES,
        "variables": variables.MAX_VALUES,
        "document_errors": variables.MAX_ERRORS,
        "errors": validation.MAX_ERRORS,
        "shown": reported_values.VALUE_LENGTH,
        "statements": MAX_CONCURRENT,
        "waiting": pool.MAX_WAITING_STATEMENTS,
        "units": response_slots.MAX_SLOTS,
        "retry_after": RETRY_AFTER,
        "streams": hub.MAX_STREAMS,
        "streams_of_a_person": hub.MAX_OF_A_PERSON,
        "events": stream.PAGE,
    }
    return {name: f"{number:,.0f}" for name, number in numbers.items()}


def _defaults() -> dict[str, Any]:
    """The defaults of the settings that limit something, by their names in capitals."""
    fields = Settings.model_fields
    names = (
        "rate_limit_read",
        "rate_limit_write",
        "request_deadline_seconds",
        "trash_days",
        "live_max_seconds",
    )
    limits = [name for name in fields if name.startswith("graphql_max_")]
    defaults = {name: fields[name].default for name in (*names, *limits, "idempotency_hours")}
    return {
        name.upper(): f"{value:,.0f}" if isinstance(value, int | float) else value
        for name, value in defaults.items()
    }


_DOCUMENT: Final = Limits()

_TEXT: Final = """\
# Limits

<!-- Made from the code by `make limits`. -->

Beyond a limit, a request is refused whole and nothing is done. The response names the limit. [errors.md](errors.md) has
the types of errors. A name in capitals is a setting; its number is the default.

## The budget

| | |
|---|---|
| reads of a person (`RATE_LIMIT_READ`) | {RATE_LIMIT_READ} |
| writes of a person (`RATE_LIMIT_WRITE`) | {RATE_LIMIT_WRITE} |
| without a valid session | the same, for each address (IPv6: its /64) |

It is one budget over both protocols and all instances.

- A REST request costs one: GET and HEAD a read, everything else a write.
- A GraphQL document costs one for each root field, and at least one. Aliases and fragments count; introspection and
  what `@skip` leaves out do not. A document that is rejected costs one read; a mutation costs one write instead if the
  person's reads are known to be spent.
- Creating many tasks at once costs one write for every {tasks_a_write} begun, in both protocols.
- A cost is taken whole before anything runs, or the response is 429 `rate_limit_exceeded`. `Retry-After` then says in
  how many seconds this cost fits. A cost above the whole budget is 400.
- Free are 404 for a path, 405, `OPTIONS`, `/health` and the documentation. A mutation by GET is 405, and free.
- `X-RateLimit-Limit`, `-Remaining` and `-Reset` (a Unix second) are headers of every charged response, also of
  GraphQL, and so are `RateLimit` and `RateLimit-Policy` of the IETF's draft. GraphQL has `extensions.cost` too.

While the budget of an address is spent, an unknown token may get 429 without a look-up. Tokens that this worker has
found valid before are looked up at once.

## A task and a request

| what | at most | beyond it |
|---|---|---|
| title | {title} characters, at least 1 | 400 |
| description | {description} characters | 400 |
| tags | {tags}, each of 1 to {tag} characters | 400 |
| a search (`q`) | {query} characters | 400 |
| priorities, or tags, in a filter | {values} | 400 |
| tasks in a page | {page}; REST's default; GraphQL's is {default_page} | 400 |
| ids in a bulk update or deletion | {page} | 400 |
| tasks in a bulk creation | {new} | 400 |
| idempotency key | {key} printable ASCII characters | 400 |
| token | {token} characters | 401 |
| request body | {body} KiB | 413 |
| time for the body to arrive | {body_seconds} s | 408 |
| request line and headers | {headers} KiB together | 400, connection closed |
| faults listed in an error | {errors}, with {shown} characters of each value | the others are not listed |

Characters are Unicode code points. The body limit holds for a bulk creation, too: {new} tasks with descriptions of
600 ASCII characters fit.

## A GraphQL document

| what | at most | setting |
|---|---|---|
| characters | {document_length} | |
| tokens | {GRAPHQL_MAX_TOKENS} | `GRAPHQL_MAX_TOKENS` |
| operations and fragments | {GRAPHQL_MAX_DEFINITIONS} | `GRAPHQL_MAX_DEFINITIONS` |
| levels of fields | {GRAPHQL_MAX_DEPTH} | `GRAPHQL_MAX_DEPTH` |
| levels of selection sets, fragments included | {document_nesting} | |
| aliases | {GRAPHQL_MAX_ALIASES} | `GRAPHQL_MAX_ALIASES` |
| aliases below root fields | {nested_aliases} | |
| directives | {document_directives} | |
| fields, fragments included | {document_fields} | |
| pairs of fields with one response key | {document_repeats} | |
| tasks that all its lists ask for | {document_items} | |
| tasks in one list | {GRAPHQL_MAX_PAGE_SIZE} | `GRAPHQL_MAX_PAGE_SIZE` |
| values in its variables | {variables} | |
| estimated fields of an introspection | {document_introspection} | |

Beyond one of these, the code is `GRAPHQL_VALIDATION_FAILED` and the response has no `data`. A rejection has at most
{document_errors} errors; if more variables are wrong, a further one says so.

## At the same time, and in time

| what | at most | beyond it |
|---|---|---|
| statements of one request | {statements} | the others wait |
| database connections of one person | half of the pool | statements wait |
| statements of one person that wait | {waiting} | 503 |
| responses of one person under way, in units of their cost | {units} | wait, then 503 |
| database work of a request (`REQUEST_DEADLINE_SECONDS`) | {REQUEST_DEADLINE_SECONDS} s | 503 |
| requests of one connection that wait (pipelining) | {pipelined} | they are read later |
| an idle connection | {idle} s | closed |
| a client that does not read its response | {slow} s | connection closed |
| streams of one person, on an instance | {streams_of_a_person} | 429 |
| streams of an instance | {streams} | 503 |
| tasks in one event of a stream | {events} | further events |
| a stream (`LIVE_MAX_SECONDS`) | {LIVE_MAX_SECONDS} s, more or less | cut: [live.md](live.md) |

503 has `Retry-After: {retry_after}`. The numbers of one person hold for each worker;
[deploy.md](deploy.md#what-one-person-can-use) explains them, [SECURITY.md](../SECURITY.md) what holds under attack.

## How long something is kept

| what | for | setting |
|---|---|---|
| a deleted task, in the trash | {TRASH_DAYS} days | `TRASH_DAYS` |
| an idempotency key with its response | {IDEMPOTENCY_HOURS} hours | `IDEMPOTENCY_HOURS` |
"""
