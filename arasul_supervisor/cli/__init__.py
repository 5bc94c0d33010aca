"""The command line: one file per family of commands."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from io import TextIOWrapper
from typing import TYPE_CHECKING, Final, Protocol, cast

from arasul_supervisor import __version__
from arasul_supervisor.errors import ArasulError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from arasul_supervisor.cli.output import Subparsers

    class Family(Protocol):
        """What each module of this folder that holds commands offers."""

        def add_parser(self, subparsers: Subparsers, /) -> None: ...
        def run(self, args: argparse.Namespace, /) -> int: ...


FAMILY_OF: Final = {  # command -> its module here, in the order of --help
    "run": "run",
    "health": "health",
    "status": "process",
    "start": "process",
    "stop": "process",
    "restart": "process",
    "config": "config",
    "models": "models",
    "pull": "pull",
    "pulls": "pulls",
    "rm": "models",
    "verify": "checks",
    "repair": "checks",
    "logs": "logs",
    "incidents": "incidents",
    "quarantine": "quarantine",
    "stats": "stats",
    "doctor": "doctor",
    "version": "version",
}
USAGE: Final = 2
INTERRUPTED: Final = 130
BROKEN_PIPE: Final = 141  # what a shell shows for a program that SIGPIPE ended


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    :param argv: the words after the program's name; those of this process when None
    :returns: the exit code: 0, 1 for an error, 2 for wrong usage, 130 after Ctrl-C; `run` has its own
    """
    words = sys.argv[1:] if argv is None else list(argv)
    _never_fail_on_a_letter()
    try:
        args = _parsed(words)
    except SystemExit as end:  # argparse's way to end after --help and after wrong usage
        return end.code if isinstance(end.code, int) else USAGE
    try:
        code = _family(FAMILY_OF[args.command]).run(args)
        if sys.stdout is not None:  # None: started with stdout closed
            sys.stdout.flush()
    except ArasulError as error:
        print(f"arasul-supervisor: {error.sentence}", file=sys.stderr)
        return int(getattr(error, "exit_code", 1))
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _point_stdout_at_nothing()
        return BROKEN_PIPE
    except OSError as error:
        if args.command == "run" or error.filename is not None:  # else only stdout is left to fail like this
            raise
        _point_stdout_at_nothing()
        print(f"arasul-supervisor: The output cannot be written: {error.strerror}.", file=sys.stderr)
        return 1
    return code


def _never_fail_on_a_letter() -> None:
    """A model's name or a log line may hold what the terminal's encoding lacks."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _parsed(words: list[str]) -> argparse.Namespace:
    if words == ["run"]:  # nothing to parse, and the daemon would keep 0.3 MiB of what a parser needs
        return argparse.Namespace(command="run")
    return _parser(words).parse_args(words, argparse.Namespace(url=None, json=False))


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    """The parser, with only the families that `words` may mean: `health` and `run` must start fast."""
    parser = argparse.ArgumentParser(
        prog="arasul-supervisor",
        description="Owns the Ollama process of this box, and asks the daemon that does.",
    )
    parser.add_argument("--version", action="version", version=f"arasul-supervisor {__version__}")
    # Defaults are suppressed, else a subcommand's default would overwrite what stands before it.
    parser.add_argument("--url", default=argparse.SUPPRESS, help="the daemon's address (or ARASUL_URL)")
    parser.add_argument(
        "--json", action="store_true", default=argparse.SUPPRESS, help="answer in JSON, for machines"
    )
    # Told its own name, argparse need not make a help formatter to find it: 2 ms.
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, prog=parser.prog)
    meant = [FAMILY_OF[word] for word in words if word in FAMILY_OF]
    for family in dict.fromkeys(meant or FAMILY_OF.values()):
        _family(family).add_parser(subparsers)
    return parser


def _family(module: str) -> Family:
    # cast: import_module knows no protocols
    return cast("Family", importlib.import_module(f"arasul_supervisor.cli.{module}"))


def _point_stdout_at_nothing() -> None:
    """Keeps the interpreter's last flush from complaining about the reader that left, as `| head` does."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, sys.stdout.fileno())
    os.close(nothing)
