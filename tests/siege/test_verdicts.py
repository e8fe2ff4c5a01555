"""What is done to documents quicker than graphql-core does it comes to the same."""

from __future__ import annotations

import os
import random
import re
import sys
import time

import pytest
from graphql import (
    GraphQLError,
    Lexer,
    OperationDefinitionNode,
    Source,
    TokenKind,
    parse,
    specified_rules,
    validate,
)

from graphql_schema.compiled import CompiledSchema, RequestRejected
from graphql_schema.compiled.lexer import QuickLexer
from graphql_schema.compiled.limits import check
from graphql_schema.rules import NestedAliases
from graphql_schema.schema import engine, schema
from tests.conftest import settings_of_tests
from tests.siege.documents import KEPT, WORST, Generator
from tests.siege.test_documents import loop

MANY = int(os.environ.get("SIEGE_DOCUMENTS", "300"))


@pytest.fixture
def documents() -> CompiledSchema:
    """The app's engine, with nothing in it."""
    return engine(settings_of_tests(database_url="postgresql://nobody@127.0.0.1:1/nothing"))


# Stock needs half a second for some of them.
def test_validation_says_what_stock_says(documents: CompiledSchema) -> None:
    rules = [*specified_rules, NestedAliases]
    seen = {"valid": 0, "invalid": 0}
    texts = [*WORST.values(), *(write("n") for write in KEPT.values())]
    texts += [Generator(seed).document() for seed in range(MANY // 6)]
    for text in texts:
        try:
            node = parse(text, max_tokens=1_000)
            check(node, documents.limits)
        except (GraphQLError, RequestRejected):
            continue
        stock = {
            (error.message, str(error.locations))
            for error in validate(schema()._schema, node, rules, max_errors=10_000)
        }
        try:
            documents.prepare(text)
            ours = set()
        except RequestRejected as refused:
            ours = {(error.message, str(error.locations)) for error in refused.errors}
        assert ours <= stock
        assert bool(ours) is bool(stock)
        seen["invalid" if stock else "valid"] += 1
    assert seen["valid"] > 10
    assert seen["invalid"] > 20


PIECES = [
    *("{ a }", "query { a }", 'query A { a(x: {b: "}"}) }', "query query { query }", "{}"),
    *("mutation B($x: I = {a: {b: 1}}) @d(x: {y: 1}) { a }", "mutation @skip(if: true) { x }"),
    *(
        "fragment query on T { x }",
        "fragment F on mutation @d { x { y } }",
        "query fragment { on }",
    ),
    *("subscription S { x }", '"text" query D { a }', '"""block } query { """ mutation E { a }'),
    *("mutation mutation { fragment }", 'query A($s: String = """ " \\""" { """) { x }'),
    *('query Q { a(s: "\\"{", t: "") b(u: """""") }', "query ($a: [Int!] = [1.5e3, -2 ]) { x }"),
    *("# {\n", 'query\n#c "\nG { a }', "query G # {\r { a }", '"\\u0022" query H { x }'),
]
BITS = [*('"', '""', '"""', "{", "}", "(", ")", "\\", "#", "\n", "\ufeff", ",", "é", "@", "query")]


def test_the_scan_says_what_parsing_says(documents: CompiledSchema) -> None:
    rng = random.Random(8)
    parsed = 0
    for _ in range(20 * MANY):
        parts = [rng.choice(PIECES) for _ in range(rng.randrange(1, 4))]
        if rng.random() < 0.5:
            chosen = rng.randrange(len(parts))
            text = parts[chosen]
            at = rng.randrange(len(text) + 1)
            parts[chosen] = text[:at] + rng.choice(BITS) + text[at + rng.randrange(2) :]
        text = rng.choice(["", " ", ",", "\n"]).join(parts)
        try:
            node = parse(text)
        except GraphQLError:
            documents.find_kind(text)
            continue
        parsed += 1
        operations = [
            each for each in node.definitions if isinstance(each, OperationDefinitionNode)
        ]
        for name in (None, "A", "B", "query", "mutation", "nope"):
            kinds = [
                each.operation
                for each in operations
                if name is None or (each.name and each.name.value == name)
            ]
            expected = kinds[0] if len(kinds) == 1 else None
            assert documents.find_kind(text, name) is expected, (text, name)
    assert parsed > 5 * MANY


@pytest.mark.parametrize(
    "piece",
    [*("{", "{}", '"', '""', '"""', "#", "#\n", "1", ".", "a ", "\\", '"\\', '"""\\', "("),
     *('"a', '"\n', "\ufeff", " ", "\n", "é", '"""a""" ', "query ")],
)  # fmt: skip
def test_the_scan_is_linear(piece: str, documents: CompiledSchema) -> None:
    def scan(size: int) -> float:
        text = (piece * size)[:size]
        start = time.process_time()
        documents.find_kind(text)
        return time.process_time() - start

    assert min(scan(20_000) for _ in range(5)) < min(loop() for _ in range(5))


TOKENS = [
    *("{", "}", "(", ")", "[", "]", "!", "$", "&", ":", "=", "@", "|", "...", "..", "."),
    *('"', '""', '"""', '\\"""', '\\"', "\\\\", "\\n", "\\u0041", "\\uD83D\\uDE00", "\\ud800"),
    *(
        "\\u{1F600}",
        "\\x",
        "\\u12",
        "a",
        "_b9",
        "é",
        "0",
        "-1",
        "01",
        "1.5",
        "1e3",
        "1.",
        "-",
        "1a",
    ),
    *("\n", "\r", "\r\n", " ", "\t", ",", "\ufeff", "#", "# c", "\ud800", "\udc00", "😀", "\x00"),
    *("'", "?", "name", ' "s" ', '"""b\n  c\n"""', "x" * 50),
]


def tokens(lexer: Lexer) -> list[object]:
    """All tokens of a lexer, and the error that ends them if there is one."""
    outcome: list[object] = []
    try:
        while lexer.token.kind is not TokenKind.EOF:
            token = lexer.advance()
            place = (token.start, token.end, token.line, token.column)
            outcome.append((token.kind, place, token.value))
    except GraphQLError as error:
        outcome.append((error.message, error.locations))
    return outcome


def test_no_pattern_repeats_a_group_possessively() -> None:
    """Up to Python 3.11.4, which Debian 12 has an earlier one of, it may match too much.

    https://github.com/python/cpython/issues/106052
    """
    patterns = {
        value.pattern
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] in ("api", "graphql_schema", "persistence", "rest")
        for value in vars(module).values()
        if isinstance(value, re.Pattern) and isinstance(value.pattern, str)
    }
    # What stands between brackets is one character.
    plain = {re.sub(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", "x", pattern) for pattern in patterns}

    assert len(plain) > 10
    assert [each for each in plain if re.search(r"\)(?:[*+?]|\{[0-9,]+\})\+|\(\?>", each)] == []


def test_the_lexer_reads_what_stock_reads() -> None:
    rng = random.Random(6)
    for _ in range(30 * MANY):
        text = "".join(rng.choices(TOKENS, k=rng.randrange(1, 25)))
        assert tokens(QuickLexer(Source(text))) == tokens(Lexer(Source(text))), repr(text)
