"""The committed files that are generated from the code: both contracts, errors and limits.

For development only, and no command of `twofold`:
`python -m api.commands.contracts openapi|schema|errors|limits [--check]`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from api.app import create_app
from api.commands.errors_document import generate_errors
from api.commands.limits_document import generate_limits
from api.settings import load
from graphql_schema.schema import schema
from rest import openapi

_ROOT: Final = Path(__file__).parents[2]


class Contract(NamedTuple):
    """A generated file.

    Attributes:
        path: the file, relative to the repository's root.
        generate: returns the text that the code stands for, with a line break at its end.
    """

    path: str
    generate: Callable[[], str]


def generate_openapi() -> str:
    """The OpenAPI document of the assembled app."""
    return openapi.render(create_app(load(**_PLACEHOLDERS)))


def generate_schema() -> str:
    """The GraphQL schema in SDL."""
    return schema().as_str() + "\n"


# Required settings that do not change the document: nothing is opened or served.
_PLACEHOLDERS: Final[dict[str, Any]] = {
    "_env_file": None,
    "environment": "testing",
    "database_url": "postgresql://placeholder@localhost/placeholder",
    "session_hash_secret": "a placeholder that signs and serves nothing",
}

CONTRACTS: Final = {
    "openapi": Contract("rest/openapi.json", generate_openapi),
    "schema": Contract("graphql_schema/schema.graphql", generate_schema),
    "errors": Contract("docs/errors.md", generate_errors),
    "limits": Contract("docs/limits.md", generate_limits),
}
"""Each contract by its name, which is also its target in the Makefile."""


def main(arguments: Sequence[str] | None = None, root: Path = _ROOT) -> int:
    """Write a contract, or with ``--check`` compare the committed file with the code.

    Args:
        arguments: the command line; by default the process's own.
        root: the folder that the contracts' paths are relative to.

    Returns:
        The exit code: 1 if the committed file differs from the code, else 0.
    """
    options = _parser().parse_args(arguments)
    contract = CONTRACTS[options.name]
    file, text = root / contract.path, contract.generate()
    if not options.check:
        file.write_text(text, encoding="utf-8")
    elif file.read_text(encoding="utf-8") != text:
        print(f"{contract.path} differs from the code. Run: make {options.name}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m api.commands.contracts")
    parser.add_argument("name", choices=CONTRACTS, help="the contract")
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    return parser


if __name__ == "__main__":
    sys.exit(main())
