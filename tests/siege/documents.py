"""Documents made to cost much: memory that stays, and time before anything is paid."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

VALUES: Final = (
    {"n": 1}
    | {f"v{n}": str(n) for n in range(120)}
    | {"x": "s", "b": True, "id": "1", "ids": ["1"]}
)
"""Variables that fit all documents here; unknown ones are ignored."""
CONDITIONS: Final = "abcd"
_ALL_OF_A_TASK: Final = "id title description completed version createdAt updatedAt userId"


def _conditional(name: str) -> str:
    declared = " ".join(f"${each}: Boolean!" for each in CONDITIONS)
    fields = ("title", "completed", "version", "userId")
    included = " ".join(
        f"{field} @include(if: ${each})" for field, each in zip(fields, CONDITIONS, strict=True)
    )
    return (
        f"query {name}({declared}) {{ tasks {{ nodes {{ id {included} }} "
        "edges { cursor node { id title @skip(if: $a) } } } }"
    )


KEPT: Final[dict[str, Callable[[str], str]]] = {
    "tiny": lambda name: f"{{ {name}: __typename }}",
    "ordinary": lambda name: (
        f"query {name}($n: Int) {{ tasks(first: $n) {{ nodes {{ {_ALL_OF_A_TASK} }} "
        "pageInfo { hasNextPage endCursor } totalCount } }"
    ),
    "long argument": lambda name: f'{{ tasks(after: "{name}{"a" * 19_000}") {{ totalCount }} }}',
    "wide argument": lambda name: f'{{ tasks(after: "{name}{"é" * 18_000}😀") {{ totalCount }} }}',
    "argument made wide by an escape": lambda name: (
        f'{{ tasks(after: "{name}{"a" * 18_000}\\u4e00") {{ totalCount }} }}'
    ),
    "block string": lambda name: (
        f'{{ tasks(after: """{name}{chr(10).join([" a"] * 6_000)}""") {{ totalCount }} }}'
    ),
    "long aliases": lambda name: (
        "{ viewer { " + " ".join(f"{name}{'x' * 1_800}{n}: userId" for n in range(10)) + " } }"
    ),
    "many variables": lambda name: (
        f"mutation {name}("
        + " ".join(f"$v{n}: ID!" for n in range(120))
        + ") { deleteTasks(ids: ["
        + " ".join(f"$v{n}" for n in range(120))
        + "]) { notFound } }"
    ),
    "many literals": lambda name: (
        f"mutation {name} {{ deleteTasks(ids: ["
        + " ".join(f'"{n}"' for n in range(950))
        + "]) { notFound } }"
    ),
    "many operations": lambda name: " ".join(
        f"query {name}{n} {{ tasks {{ nodes {{ id title }} }} }}" for n in range(20)
    ),
    "root aliases": lambda name: (
        "{ "
        + " ".join(
            f"{name}{n}: tasks(first: 2) {{ nodes {{ id title }} edges {{ node {{ id }} }} }}"
            for n in range(45)
        )
        + " }"
    ),
    "fragments": lambda name: (
        f"query {name} {{ "
        + " ".join(f"a{n}: tasks(first: 2) {{ ...P }}" for n in range(40))
        + " } fragment P on TaskConnection { nodes { ...T } edges { node { ...T } cursor } "
        "pageInfo { hasNextPage } } fragment T on Task { id title completed version createdAt }"
    ),
    "conditions": _conditional,
    "comments": lambda name: f"# {name}\n" + "#x\n" * 400 + "{ viewer { userId } }",
    "blank lines": lambda name: f"{{ {name}: viewer {{ userId }} " + "\n" * 19_000 + "}",
    "introspection": lambda name: (
        f"query {name} {{ __schema {{ types {{ name kind fields {{ name type {{ name }} }} }} }} }}"
    ),
}
"""Documents that are kept, of many shapes; each takes a name that makes it another one."""


class Generator:
    """Writes documents near the limits: each has a favourite, repeated until it is long."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)

    def document(self) -> str:
        """A document, valid or not."""
        pick = self.rng.choice
        is_mutation = self.rng.random() < 0.3
        roots = self.mutations if is_mutation else self.queries
        favourite = pick(roots)
        most, length = pick([1, 5, 49, 300]), pick([500, 2_000, 6_000, 19_000])
        parts: list[str] = []
        while len(parts) < most and sum(map(len, parts)) < length:
            part = (favourite if self.rng.random() < 0.8 else pick(roots))(self)
            is_aliased = len(parts) < 50 and not part.startswith("...")
            parts.append(f"a{len(parts)}: {part}" if is_aliased else part)
        variables = self.variables() if self.rng.random() < 0.6 else ""
        keyword = "mutation" if is_mutation else "query"
        operations = [f"{keyword} A{variables} {{ {' '.join(parts)} }}"]
        if self.rng.random() < 0.3:
            operations += [f"query B{n}{variables} {{ ...Q }}" for n in range(pick([1, 5, 17]))]
        text = " ".join(operations + self.fragments())
        return text[:20_000]

    def name(self) -> str:
        length = self.rng.choice([1, 1, 3, 8, 20, 35, 60, 300])
        return "".join(self.rng.choices("abcdefghij", k=length))

    def many(self, write: Callable[[], str], *counts: int) -> str:
        return " ".join(write() for _ in range(self.rng.choice(counts)))

    def value(self, depth: int = 2) -> str:
        pick = self.rng.choice
        leaves = ["1", '"x"', "$x", "$n", "null", "true", "E", "1.5", f'"{"é" * pick([1, 200])}"']
        leaves.append(f'"{pick(["a", chr(92) + "u00e9", chr(92) + "n"]) * pick([1, 30, 400])}"')
        leaves.append('"""' + "\n  a" * pick([1, 50, 900]) + '"""')
        if depth:
            leaves.append(f"[{self.many(lambda: self.value(depth - 1), 0, 3, 30)}]")
            leaves.append(f"{{{self.members(depth - 1)}}}")
        return pick(leaves)

    def members(self, depth: int) -> str:
        return self.many(lambda: f"{self.name()}: {self.value(depth)}", 0, 3, 60)

    def leaf(self) -> str:
        pick = self.rng.choice
        names = ["id", "title", "userId", "completed", "version", "__typename", self.name()]
        alias = f"{self.name()}: " if self.rng.random() < 0.2 else ""
        return f"{alias}{pick(names)}{pick(['', '', ' @skip(if: true)', ' @include(if: $b)'])}"

    def selection(self) -> str:
        leaves = self.many(self.leaf, 1, 4, 20)
        counts = "totalCount " * self.rng.choice([1, 5, 40])
        return self.rng.choice(
            [
                f"nodes {{ {leaves} }}",
                f"edges {{ cursor node {{ {leaves} }} }} pageInfo {{ hasNextPage }}",
                f"... on TaskConnection {{ nodes {{ {leaves} }} }}",
                f"...C {counts}",
                "nodes { ...T } " + "... { totalCount } " * self.rng.choice([1, 5, 40]),
            ]
        )

    def variables(self) -> str:
        known = ["$x: String", "$b: Boolean!", "$n: Int", "$id: ID!", "$ids: [ID!]!"]
        types = ["Int", "ID!", "[String!]", "CreateTaskInput", "Boolean = true", self.name()]
        more = [
            f"${self.name()}{n}: {self.rng.choice(types)}"
            for n in range(self.rng.choice([0, 0, 10, 150]))
        ]
        return f"({' '.join(known + more)})"

    def fragments(self) -> list[str]:
        if self.rng.random() < 0.3:
            return []
        written = [
            f"fragment T on Task {{ {self.many(self.leaf, 1, 9, 40)} }}",
            f"fragment V on Viewer {{ {'userId ' * self.rng.choice([1, 9, 40])} }}",
            "fragment C on TaskConnection { nodes { ...T } pageInfo { hasNextPage } }",
            f"fragment Q on Query {{ {self.many(lambda: self.queries[0](self), 1, 3, 12)} }}",
            'fragment M on Mutation { createTask(input: {title: "x"}) { id } }',
        ]
        chain = [
            f"fragment F{n} on Task {{ id {' '.join(f'...F{m}' for m in range(n + 1, 12))} }}"
            for n in range(12)
        ]
        return self.rng.sample(written, self.rng.randrange(1, 6)) + (
            chain if self.rng.random() < 0.2 else []
        )

    queries: tuple[Callable[[Generator], str], ...] = (
        lambda self: f"tasks(first: $n after: {self.value(0)}) {{ {self.selection()} }}",
        lambda self: (
            "viewer { " + self.many(lambda: "userId reads { limit } ...V", 1, 5, 60) + " }"
        ),
        lambda self: f"task(id: {self.value(0)}) {{ {self.leaf()} {self.leaf()} }}",
        lambda self: "__schema { types { name " + "fields { args { name } } " * 5 + "} }",
        lambda self: f"tasks({self.members(1)}) {{ nodes {{ id }} }}",
        lambda self: f"tasks(filter: {{ {self.members(1)} }}) {{ totalCount }}",
        lambda self: self.name(),
        lambda self: "...Q",
    )
    mutations: tuple[Callable[[Generator], str], ...] = (
        lambda self: f'createTask(input: {{title: "x" {self.members(1)}}}) {{ {self.leaf()} }}',
        lambda self: (
            "deleteTasks(ids: ["
            + self.many(lambda: self.rng.choice(["1", '"2"', "$id", self.value(0)]), 1, 20, 300)
            + "]) { deleted notFound }"
        ),
        lambda self: (
            f"updateTask(id: {self.value(0)} input: {{title: {self.value(0)}}}) {{ {self.leaf()} }}"
        ),
        lambda self: "...M",
    )


def _nested(opening: str, closing: str, count: int) -> str:
    return opening * count + "userId" + closing * count


WORST: Final[dict[str, str]] = {
    "unknown members": (
        'mutation { createTask(input: {title: "a" '
        + " ".join(f"x{n}: 1" for n in range(309))
        + "}) { id } }"
    ),
    "unknown fields": "{ viewer { " + " ".join(f"us{n}" for n in range(950)) + " } }",
    "long unknown fields": (
        "{ viewer { " + " ".join("u" * 18 + str(n) for n in range(900)) + " } }"
    ),
    "unused variables": (
        "query (" + " ".join(f"$x{n}: Int" for n in range(180)) + ") { viewer { userId } }"
    ),
    "undefined variables": (
        "mutation { deleteTasks(ids: ["
        + " ".join(f"$x{n}" for n in range(480))
        + "]) { notFound } }"
    ),
    "unknown arguments": (
        "{ tasks(" + " ".join(f"a{n}: 1" for n in range(320)) + ") { totalCount } }"
    ),
    "literals": (
        "mutation { deleteTasks(ids: ["
        + " ".join(f'"{n}"' for n in range(970))
        + "]) { notFound } }"
    ),
    "wrong literals": ("{ tasks(filter: {completed: [" + "aaaa " * 900 + "]}) { totalCount } }"),
    "directives": "{ viewer { " + "userId @skip(if: true) " * 50 + "} }",
    "repeated fields": "{ viewer { " + "userId " * 63 + "} }",
    "inline fragments": "{ viewer { " + _nested("... { ", " }", 45) + " } }",
    "fragments of fragments": (
        "{ viewer { ...F0 } } "
        + " ".join(
            f"fragment F{n} on Viewer {{ userId {f'...F{n + 1} ' * 8 if n < 18 else ''}}}"
            for n in range(19)
        )
    ),
    "operations": (
        " ".join(f"query Q{n} {{ ...F }}" for n in range(19))
        + " fragment F on Query { "
        + "viewer { userId } " * 14
        + "}"
    ),
    "escapes": '{ tasks(after: "' + "\\n" * 9_900 + '") { totalCount } }',
    "lines": '{ tasks(after: """' + "\n a" * 6_500 + '""") { totalCount } }',
    "literals and escapes": (
        "mutation { deleteTasks(ids: ["
        + " ".join('"' + "\\u0041" * 2 + '"' for _ in range(970))
        + "]) { notFound } }"
    ),
    "values nested": "mutation { deleteTasks(ids: " + "[" * 190 + "]" * 190 + ") { notFound } }",
    "comments": "{ viewer { userId } }" + "#\n" * 900,
}
"""Documents within the limits of size that were found to take the longest."""
