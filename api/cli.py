"""The command `twofold`: dev, serve, migrate, check. Each reads the environment when it is run."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the result is the exit code."""
    given = vars(_parser().parse_args(arguments))
    command = given.pop("command")
    # Only now: `twofold --help` needs none of them, nor does a worker of `twofold serve`.
    from api.commands.terminal import Refusal

    try:
        getattr(import_module(f"api.commands.{command}"), command)(**given)
    except Refusal as refusal:
        print(*refusal.sentences, sep="\n", file=sys.stderr)
        return refusal.code
    except KeyboardInterrupt:
        return 130
    return 0


class _Version(argparse.Action):
    """Argparse's own, but looked up only when it is asked for."""

    def __call__(self, *_: object) -> NoReturn:
        from importlib.metadata import version

        print(f"twofold {version('twofold')}")
        raise SystemExit(0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="twofold", description="One task API with two doors.")
    parser.add_argument(
        "--version",
        action=_Version,
        nargs=0,
        default=argparse.SUPPRESS,
        help="show the version and exit",
    )
    commands = parser.add_subparsers(required=True, metavar="command")

    dev = commands.add_parser("dev", help="serve with reload; embedded PostgreSQL if none is given")
    dev.set_defaults(command="dev")
    # Whose end is also ours, even if it is killed: make's process id.
    dev.add_argument("--parent", type=int, help=argparse.SUPPRESS)

    serve = commands.add_parser("serve", help="serve as in production")
    serve.set_defaults(command="serve")
    serve.add_argument("--host", help="address to listen on (HOST, 127.0.0.1)")
    serve.add_argument("--port", type=int, help="port to listen on (PORT, 8000)")
    serve.add_argument("--workers", type=int, help="processes (WEB_CONCURRENCY, 1)")

    migrate = commands.add_parser("migrate", help="bring the database's schema up to date")
    migrate.set_defaults(command="migrate")

    check = commands.add_parser(
        "check", help="show the settings, and what is wrong with them; connects to nothing"
    )
    check.set_defaults(command="check")
    return parser


if __name__ == "__main__":
    sys.exit(main())
