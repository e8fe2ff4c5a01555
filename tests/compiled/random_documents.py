"""Random documents and variables for the schema of `random_schema`."""

import random
from collections.abc import Sequence
from typing import Any

from graphql import (
    GraphQLField,
    GraphQLInputObjectType,
    GraphQLInt,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLString,
    GraphQLUnionType,
    get_named_type,
    get_nullable_type,
    is_leaf_type,
    is_list_type,
    is_non_null_type,
)

from tests.compiled.random_schema import SCHEMA


class Writer:
    """Writes random documents for the schema, nearly all of them valid."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.aliases = 0
        self.fragments: list[str] = []
        self.defers = rng.random() < 0.75

    def document(self) -> str:
        graphql = SCHEMA._schema
        is_mutation = self.rng.random() < 0.15
        root = graphql.mutation_type if is_mutation else graphql.query_type
        assert root is not None
        weights = [1 if is_leaf_type(get_named_type(f.type)) else 5 for f in root.fields.values()]
        count = self.rng.choice([1, 1, 1, 2, 3])
        names = self.rng.choices(list(root.fields), weights, k=count)
        depth = self.rng.choice([1, 2, 2, 3])
        fields = [self.field(name, root.fields[name], depth, alias=True) for name in names]
        fields.append(f"kind: __typename{self.condition()}")
        selections = " ".join(fields)
        if self.rng.random() < 0.1:
            selections = f"...Root }} fragment Root on {root.name} {{ {selections}"
        kind = "mutation" if is_mutation else "query"
        body = f"{{ {selections} }} {' '.join(self.fragments)}"
        used = [text for name, text in VARIABLES.items() if name in body]
        return f"{kind} Op{'(' if used else ''}{', '.join(used)}{')' if used else ''} {body}"

    def selection(self, type_: object, depth: int) -> str:
        if isinstance(type_, GraphQLInterfaceType | GraphQLUnionType):
            return self.abstract(type_, depth)
        assert isinstance(type_, GraphQLObjectType)
        fields = list(type_.fields.items())
        self.rng.shuffle(fields)
        written = [
            self.field(name, field, depth)
            for name, field in fields[: self.rng.choice([1, 2, 3, 4, 5, len(fields)])]
            if self.defers or not (field.args or name in RESOLVED)
        ]
        if self.rng.random() < 0.2:
            written.append("__typename")
        if self.rng.random() < 0.2:
            written.append(f"...{self.condition()} {self.selection(type_, depth - 1)}")
        if self.rng.random() < 0.2:
            written.append(self.spread(type_, depth - 1))
        self.rng.shuffle(written)
        return "{ " + " ".join(filter(None, written) or ["__typename"]) + " }"

    def abstract(self, type_: GraphQLInterfaceType | GraphQLUnionType, depth: int) -> str:
        written = ["__typename"]
        for possible in SCHEMA._schema.get_possible_types(type_):
            if self.rng.random() < 0.8:
                inner = self.selection(possible, depth - 1)
                written.append(f"... on {possible.name}{self.condition()} {inner}")
        return "{ " + " ".join(written) + " }"

    def spread(self, type_: GraphQLObjectType, depth: int) -> str:
        name = f"F{len(self.fragments)}"
        self.fragments.append("")
        place = len(self.fragments) - 1
        inner = self.selection(type_, depth)
        self.fragments[place] = f"fragment {name} on {type_.name} {inner}"
        return f"...{name}{self.condition()}" + (f" ...{name}" if self.rng.random() < 0.1 else "")

    def field(self, name: str, field: GraphQLField, depth: int, alias: bool = False) -> str:
        named = get_named_type(field.type)
        if not is_leaf_type(named) and depth <= 0:
            return ""
        arguments = self.arguments(field)
        label = name
        if alias or arguments or self.rng.random() < 0.2:
            self.aliases += 1
            label = f"a{self.aliases}: {name}"
        inner = "" if is_leaf_type(named) else self.selection(named, depth - 1)
        return f"{label}{arguments}{self.condition()} {inner}"

    def arguments(self, field: GraphQLField) -> str:
        values = [
            f"{name}: {self.value(argument.type)}"
            for name, argument in field.args.items()
            if is_non_null_type(argument.type) or self.rng.random() < 0.6
        ]
        return f"({', '.join(values)})" if values else ""

    def value(self, type_: Any) -> str:
        rng = self.rng
        if is_list_type(get_nullable_type(type_)):
            return rng.choice(LISTS.get(get_named_type(type_).name, ["null"]))
        named = get_named_type(type_)
        if named is GraphQLInt:
            return rng.choice(["1", "2", "$n"])
        if named is GraphQLString:
            return rng.choice(['"x"', "null"])
        if isinstance(named, GraphQLInputObjectType):
            return rng.choice(INPUTS[named.name])
        return rng.choice(["ROUGE", "GREEN"])

    def condition(self) -> str:
        return self.rng.choice(["", "", "", "", "", "", *CONDITIONS])


VARIABLES = {
    "$a": "$a: Boolean!",
    "$b": "$b: Boolean = false",
    "$n": "$n: Int! = 2",
    "$w": "$w: Window",
}
CONDITIONS = (
    *(" @include(if: $a)", " @skip(if: $b)", " @include(if: true)", " @skip(if: $a)"),
    " @skip(if: false) @include(if: $a)",
)
RESOLVED = {"later", "others", "totalCount", "rank", "who", "either", "computed", "perhaps"}


LISTS = {
    "ID": ["[]", '["1", 2]', '"3"', "null"],
    "Colour": ["[GREEN]", "RED"],
    "Pair": ["[]", "[{left: 1}]", "{left: $n, right: 2}"],
}
INPUTS = {
    "Window": [
        *("{}", "{start: 1}", "{start: $n, size: null}", "{colours: [ROUGE, BLUE]}", "$w", "$w"),
        '{pairs: [{left: 1, when: "2026-01-01T00:00:00+00:00"}, null], numbers: [[$n], 2]}',
        "{wider: {wider: {pair: {left: $n}}}}",
    ],
    "Pair": ["{left: 2}", "{left: $n, right: null}", "null"],
    "Change": ['{title: "x"}', "{note: null}", "{}", "{title: null}"],
}


def variables(rng: random.Random) -> dict[str, Any]:
    values: dict[str, Any] = {"a": rng.random() < 0.5}
    if rng.random() < 0.7:
        values["b"] = rng.choice([True, False, True, False, None])
    if rng.random() < 0.7:
        values["n"] = rng.choice([1, 2, 3, 2.0])
    if rng.random() < 0.7:
        values["w"] = rng.choice(WINDOWS)
    if rng.random() < 0.05:
        values[rng.choice("abnw")] = rng.choice(["x", 2**40, {"no": 1}, [], {"start": "x"}])
    return values


WINDOWS: Sequence[Any] = (
    *(None, {}, {"start": 2}, {"colours": ["ROUGE"], "size": 1}, {"wider": {"wider": {}}}),
    *({"pairs": [{"left": 1, "right": 2}]}, {"pairs": {"left": 1}}, {"numbers": 3}),
    *({"pair": {"left": "1"}}, {"pair": None, "numbers": []}, {"colours": ["PINK"]}),
)
