"""The command `twofold`: parses the command line and runs one module of `api.commands`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

from api.server.interrupts import interrupt_once


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: the command line without the program; None for that of this process.

    Returns:
        The exit code: 2 for invalid settings, 130 after Ctrl-C.
    """
    options = vars(_parser().parse_args(arguments))
    try:
        with interrupt_once():
            return _run(options.pop("command"), options)
    except KeyboardInterrupt:
        return 130


def _run(command: str, options: dict[str, Any]) -> int:
    # Imported here, because neither `twofold --help` nor a worker of `twofold serve` needs them.
    from api.commands.errors import CommandError
    from api.server.listener import AddressError
    from api.settings import SettingsError

    try:
        getattr(import_module(f"api.commands.{command}"), command)(**options)
    except CommandError as error:
        print(*error.lines, sep="\n", file=sys.stderr)
        return error.exit_code
    except AddressError as error:
        print(error, file=sys.stderr)
        return 1
    except SettingsError as error:
        problems = [f"  {problem}" for problem in error.problems]
        print("The settings cannot be used:", *problems, sep="\n", file=sys.stderr)
        return 2
    return 0


class _Version(argparse.Action):
    """argparse's version action, except that the version is read only if it is printed."""

    def __call__(self, *_: object) -> NoReturn:
        from importlib.metadata import version

        print(f"twofold {version('twofold')}")
        raise SystemExit(0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="twofold", description="One task API with two protocols, REST and GraphQL."
    )
    parser.add_argument(
        "--version",
        action=_Version,
        nargs=0,
        default=argparse.SUPPRESS,
        help="show the version and exit",
    )
    commands = parser.add_subparsers(required=True, metavar="command")

    dev = commands.add_parser(
        "dev",
        help="serve with reload; without DATABASE_URL on an embedded PostgreSQL, data in ./.data",
    )
    dev.set_defaults(command="dev")
    # The process id of make: `twofold dev` ends when that process ends, even if it is killed.
    dev.add_argument("--parent", type=int, help=argparse.SUPPRESS)

    serve = commands.add_parser("serve", help="serve as in production")
    serve.set_defaults(command="serve")
    serve.add_argument("--host", help="address to listen on (HOST, 127.0.0.1)")
    serve.add_argument("--port", type=int, help="port to listen on (PORT, 8000)")
    serve.add_argument("--workers", type=int, help="processes (WEB_CONCURRENCY, 1)")

    migrate = commands.add_parser("migrate", help="upgrade the schema of the database")
    migrate.set_defaults(command="migrate")

    stamp = commands.add_parser(
        "stamp", help="note which migrations a database has, after it was restored without that"
    )
    stamp.set_defaults(command="stamp")
    stamp.add_argument("revision", help="the revision of the newest one, or head")

    move = commands.add_parser(
        "move-tables",
        help="move our tables into the schema DATABASE_SCHEMA; stop the service first",
    )
    move.set_defaults(command="move_tables")

    reassign = commands.add_parser("reassign", help="give all tasks of one user to another")
    reassign.set_defaults(command="reassign")
    reassign.add_argument("old", help="the id of the user who has the tasks")
    reassign.add_argument("new", help="the id of the user who gets them")

    feeds = commands.add_parser(
        "feeds", help="`feeds reset`, after a backup was restored: clients start anew"
    )
    feeds.set_defaults(command="feeds")
    feeds.add_argument("action", choices=["reset"])

    sweep = commands.add_parser(
        "sweep", help="remove what was in the trash for too long, as the service does by itself"
    )
    sweep.set_defaults(command="sweep")

    check = commands.add_parser(
        "check",
        help="show the settings and every problem with them; by itself, connects to nothing",
    )
    check.add_argument(
        "--instances",
        type=_at_least_one,
        metavar="N",
        help="connect to the database, and compare what it allows with what N instances need",
    )
    check.set_defaults(command="check")
    return parser


def _at_least_one(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more.")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
