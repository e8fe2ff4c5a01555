"""`docs/errors.md`: the catalogue of errors for people who write clients, made from the code."""

# ruff: noqa: E501 - lines of the document, which has longer ones.

from __future__ import annotations

import json
from typing import Any, Final, NamedTuple

import msgspec

from api.errors import (
    CATALOGUE,
    MethodNotAllowed,
    NotAcceptable,
    OriginNotAllowed,
    Problem,
    ProblemType,
    describe,
)
from graphql_schema.errors import error_document
from rest.problem_documents import EXAMPLES


class Advice(NamedTuple):
    """What a client's developer has to know of an error.

    Attributes:
        meaning: what is wrong, a sentence.
        action: what the client does, a sentence.
        retry: whether and when the same request can succeed, a few words.
    """

    meaning: str
    action: str
    retry: str


ADVICE: Final[dict[str, Advice]] = {
    "validation_error": Advice(
        "The request breaks a rule. `errors` has each fault, its place and value.",
        "Show each message beside its input. A fault in no input is a defect of the client.",
        "no; correct it first",
    ),
    "authentication_error": Advice(
        "There is no token, or its session is unknown, has ended or was revoked.",
        "Let the person sign in again.",
        "with a new token",
    ),
    "authorization_error": Advice(
        "A page of another origin opens a WebSocket, and the origin is not listed.",
        "Add the origin to the server's setting `CORS_ORIGINS`.",
        "no",
    ),
    "not_found_error": Advice(
        "The person has no such task, or the path does not exist. Somebody else's task counts as"
        " none, and so does one in the trash.",
        "Remove the task from what is shown.",
        "no",
    ),
    "method_not_allowed": Advice(
        "The path does not have this method. `Allow` lists those it has.",
        "A defect of the client.",
        "no",
    ),
    "not_acceptable": Advice(
        "GraphQL only: `Accept` names no media type that a GraphQL response can have.",
        "Send `Accept: application/graphql-response+json`.",
        "no; correct it first",
    ),
    "request_timeout": Advice(
        "The body did not arrive in time. Nothing was done.",
        "Send it again on another connection; this one is closed.",
        "yes",
    ),
    "idempotency_in_flight": Advice(
        "The first request with this idempotency key has not ended.",
        "Wait for `Retry-After` seconds and repeat it with the same key.",
        "yes, after `Retry-After`",
    ),
    "sync_token_expired": Advice(
        "The changes since this token are no longer known, or it is of another history.",
        "Forget the tasks and the token, and ask without `since`.",
        "without `since`",
    ),
    "precondition_failed": Advice(
        "The task is at another version than the one in `If-Match` or `expectedVersion`."
        " `version` has the current one.",
        "Read the task, show what has changed, and let the person decide.",
        "with the new version",
    ),
    "payload_too_large": Advice(
        "The body has more bytes than a request may have. Nothing was done.",
        "Divide it into several requests. The connection is closed.",
        "no; divide it first",
    ),
    "unsupported_media_type": Advice(
        "The body's `Content-Type` is not JSON, names a charset other than UTF-8, or there is a"
        " `Content-Encoding`.",
        "Send JSON in UTF-8, uncompressed.",
        "no; correct it first",
    ),
    "misdirected_request": Advice(
        "The server does not answer for the host in the address.",
        "Check the address, or the server's setting `ALLOWED_HOSTS`.",
        "no",
    ),
    "idempotency_mismatch": Advice(
        "The idempotency key was used for another request.",
        "A defect of the client: each new request needs a new key.",
        "with a new key",
    ),
    "rate_limit_exceeded": Advice(
        "The person's budget of reads or writes is spent. Nothing was done.",
        "Wait for `Retry-After` seconds; this request's cost then fits.",
        "yes, after `Retry-After`",
    ),
    "internal_error": Advice(
        "A defect of the server. Whether a write was done is unknown.",
        "Report it with its `request_id`.",
        "with an idempotency key, later",
    ),
    "service_unavailable": Advice(
        "The service, or a server it needs, is away or overloaded. Whether a write was done is"
        " unknown.",
        "Wait for `Retry-After` seconds, longer each time. Repeat a write only with an idempotency"
        " key.",
        "yes, after `Retry-After`",
    ),
}
"""Advice for every type of the catalogue that is in use, by the type's name."""


def generate_errors() -> str:
    """The document, with a line break at its end."""
    types = list({each.name: each for each in CATALOGUE.values()}.values())
    types.sort(key=lambda each: each.status)
    rows = "\n".join(map(_row, types))
    sections = "\n".join(map(_section, types))
    return _TEXT.format(rows=rows, sections=sections)


_TEXT: Final = """\
# Errors

<!-- Made from the code by `make errors`. -->

In REST an error is `application/problem+json` (RFC 9457); or as `application/json`, if `Accept` names that and
not `application/problem+json`. GraphQL has the same members in `errors[].extensions`, and `code`, the type in upper
case. Decide by `type` or `code`, never by a text.

| member | meaning |
|---|---|
| `type`, `title`, `status` | fixed for each type: the table below |
| `detail` | what is wrong with this request. In GraphQL it is also the `message`; of `validation_error`, the message has the first faults |
| `instance` | the path of the request |
| `timestamp`, `request_id` | when, and the id under which the log has the request (also the header `X-Request-ID`) |
| `errors` | of `validation_error`: for each fault `field` (a dotted path, empty for the whole body), `message`, `code` and `value` |
| `retry_after` | of `rate_limit_exceeded` and `idempotency_in_flight`: seconds, as in the header `Retry-After` |
| `rate_limit_info` | of `rate_limit_exceeded`: the budget |
| `version` | of `precondition_failed`: the current version, also in the header `ETag` |
| `failing` | of `/health/ready`: the part that fails |

## The catalogue

| `type` | status | GraphQL's `code` | `title` | retry |
|---|---|---|---|---|
{rows}

**The status of a GraphQL response.** Errors before execution have the status above, and no `data`: 401, 405, 406,
408, 413, 415, 429, 503, and 400 for a body that is no request. A document that is rejected is 400 for
`Accept: application/graphql-response+json`, and 200 for `application/json`. Errors during execution are always 200:
the field is `null`, and its error has the `path`. So look at `errors`, whatever the status.

GraphQL has three further codes, all with the type `validation_error`: `GRAPHQL_PARSE_FAILED` (the syntax),
`GRAPHQL_VALIDATION_FAILED` (the schema, the operation's name, the variables, or a [limit](limits.md)), and
`PERSISTED_QUERY_NOT_SUPPORTED` (a hash without a document: send the document).

[retries.md](retries.md) says how writes are repeated safely, [failures.md](failures.md) when 503 occurs.

## Each error

The examples are in REST's form and in GraphQL's. `…` stands for an id and a time.

{sections}"""


def _row(kind: ProblemType) -> str:
    cells = [f"`{kind.name}`", str(kind.status), f"`{kind.name.upper()}`", kind.title]
    return f"| {' | '.join([*cells, ADVICE[kind.name].retry])} |"


def _section(kind: ProblemType) -> str:
    advice, problem = ADVICE[kind.name], example(kind.name)
    headers = ", ".join(f"`{name}: {value}`" for name, value in problem.headers.items())
    lines = [
        f"### {kind.name}",
        "",
        f"{advice.meaning} {advice.action}",
        "",
        *([f"Headers: {headers}.", ""] if headers else []),
    ]
    if kind.name not in GRAPHQL_ONLY:
        lines += ["```json", _json(rest_example(problem)), "```", ""]
    lines += ["```json", _json(graphql_example(problem)), "```", ""]
    return "\n".join(lines)


GRAPHQL_ONLY: Final = {"not_acceptable", "authorization_error"}
"""Types that REST never sends."""


def example(name: str) -> Problem:
    """The example of a type of the catalogue, by the type's name."""
    problems = [describe(error) for error in _examples()]
    return next(problem for problem in problems if problem.type.name == name)


def _examples() -> list[Exception]:
    return [
        # Before `/health/ready`, whose 503 is another one.
        EXAMPLES["Unavailable"],
        *EXAMPLES.values(),
        MethodNotAllowed(["DELETE", "GET", "HEAD", "PATCH", "PUT"]),
        NotAcceptable("A response is application/graphql-response+json or application/json"),
        OriginNotAllowed(),
    ]


def rest_example(problem: Problem) -> dict[str, Any]:
    """A problem as REST sends it."""
    return _plain(_members(problem, "/tasks"))


def graphql_example(problem: Problem) -> dict[str, Any]:
    """A problem as one of GraphQL's ``errors``."""
    return _plain(error_document(problem, problem.code, _members(problem, "/graphql")))


def _members(problem: Problem, instance: str) -> dict[str, Any]:
    return problem.members(instance=instance, timestamp="…", request_id="…")


def _plain(document: Any) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(document)
    return plain


def _json(document: Any) -> str:
    return json.dumps(document, ensure_ascii=False, indent=2)
