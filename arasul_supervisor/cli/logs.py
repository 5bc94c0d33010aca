"""`logs`: the engine's recent lines, and those to come."""

from __future__ import annotations

import argparse
import os
import sys
import time
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from arasul_supervisor.cli.client import Silent, Unreachable, daemon_of, objects
from arasul_supervisor.cli.output import add_client_parser, note, print_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from arasul_supervisor.cli.client import Daemon
    from arasul_supervisor.cli.output import Subparsers

MOST_LINES: Final = 5000  # what the daemon keeps at hand
PERIOD_S: Final = 0.5
LEVELS: Final = ("debug", "info", "warning", "error")
COLOURS: Final = {
    "debug": "\x1b[2m",
    "warning": "\x1b[33m",
    "error": "\x1b[31m",
}  # ECMA-48: faint, yellow, red
PLAIN: Final = "\x1b[0m"


def add_parser(subparsers: Subparsers) -> None:
    """Adds the command."""
    parser = add_client_parser(subparsers, "logs", summary="the engine's recent log lines")
    parser.add_argument("-f", "--follow", action="store_true", help="go on with the lines to come")
    parser.add_argument(
        "-n", "--lines", type=_line_count, default=100, metavar="N", help="how many (default 100)"
    )
    parser.add_argument("--level", choices=LEVELS, help="only lines of this level or a louder one")
    parser.add_argument("--outcome", metavar="KEY", help="only lines of this outcome, such as load_failed")


def run(args: argparse.Namespace) -> int:
    """Prints the newest lines; with `-f` goes on until Ctrl-C."""
    daemon = daemon_of(args)
    chosen = {key: value for key in ("level", "outcome") if (value := getattr(args, key))}
    page = daemon.get(_path({"lines": args.lines, **chosen}))
    _print(page, args)
    while args.follow:
        time.sleep(PERIOD_S)
        page = _next(daemon, page, chosen)
        _print(page, args)
    return 0


def _line_count(word: str) -> int:
    if word.isdecimal() and 1 <= int(word) <= MOST_LINES:
        return int(word)
    raise argparse.ArgumentTypeError(f"{word!r} is no number from 1 to {MOST_LINES}")


def _path(query: Mapping[str, object]) -> str:
    return f"/api/logs?{urlencode(query)}"


def _print(page: Mapping[str, object], args: argparse.Namespace) -> None:
    if page.get("dropped"):
        note(f"{page['dropped']} lines are missing here; the log file has them.")
    elif page.get("dropped", 0) is None:
        note("The daemon was started anew; the log file has the lines that may be missing here.")
    if sys.stdout is None:  # started with stdout closed
        return
    is_coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR")  # https://no-color.org
    for line in objects(page, "lines"):
        colour = COLOURS.get(str(line.get("level"))) if is_coloured else None
        if args.json:
            print_json(line)
        else:
            print(f"{colour}{line.get('text', '')}{PLAIN}" if colour else line.get("text", ""))
    sys.stdout.flush()


def _next(daemon: Daemon, page: Mapping[str, object], chosen: Mapping[str, object]) -> Mapping[str, object]:
    """The page after `page`. A daemon that is away is waited for, as `tail -F` waits for its file."""
    cursor, is_told = page.get("next", 0), False
    while True:
        try:
            fresh = daemon.get(_path({"lines": MOST_LINES, "since": cursor, **chosen}))
        except (Unreachable, Silent) as problem:
            if not is_told:
                note(f"{problem.sentence} Waiting for it.")
            is_told = True
            time.sleep(PERIOD_S)
            continue
        if _is_behind(fresh, page):  # a daemon that began anew counts its lines from the start
            return daemon.get(_path({"lines": MOST_LINES, **chosen}))
        return fresh


def _is_behind(fresh: Mapping[str, object], page: Mapping[str, object]) -> bool:
    now, before = fresh.get("next"), page.get("next")
    return isinstance(now, int) and isinstance(before, int) and now < before
