"""`stats`: what the daemon knows of the GPUs, the host and the engine, once or again and again.

What is shown is made in stats_words.py (words and figures) and stats_table.py (the drawing).
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from typing import TYPE_CHECKING, Final, NoReturn, Protocol

from arasul_supervisor.cli.bodies import printable
from arasul_supervisor.cli.client import DaemonError, Refused, daemon_of
from arasul_supervisor.cli.output import add_client_parser, note, print_json
from arasul_supervisor.cli.stats_words import sample_line
from arasul_supervisor.errors import ArasulError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from arasul_supervisor.cli.client import Daemon
    from arasul_supervisor.cli.output import Subparsers

INTERVAL_S: Final = 2.0
LEAST_INTERVAL_S: Final = 0.5
STATS: Final = "/api/stats"
HISTORY: Final = "/api/stats/history?minutes=15"


class NobodyWatches(ArasulError):
    """The standard output is closed: there is nothing that --watch could show its figures on."""


class Screen(Protocol):
    """Where samples are shown as they come."""

    def __enter__(self) -> Screen: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...
    def show(self, stats: Mapping[str, object], /) -> None: ...
    def show_absence(self, sentence: str, /) -> None: ...


def add_parser(subparsers: Subparsers) -> None:
    """Adds the command."""
    parser = add_client_parser(subparsers, "stats", summary="GPUs, host, engine and daemon in figures")
    parser.add_argument("-w", "--watch", action="store_true", help="look again and again until Ctrl-C")
    parser.add_argument(
        "--interval",
        type=_seconds,
        default=INTERVAL_S,
        metavar="SECONDS",
        help=f"between two looks of --watch (default {INTERVAL_S:g}, least {LEAST_INTERVAL_S:g})",
    )


def run(args: argparse.Namespace) -> int:
    """Shows one sample; with `--watch` goes on until Ctrl-C, which is its proper end.

    :raises NobodyWatches: `--watch` without a standard output
    """
    if args.watch and sys.stdout is None:
        raise NobodyWatches
    daemon = daemon_of(args)
    stats = daemon.get(STATS)
    if args.watch:
        try:
            with _screen(args, daemon) as screen:
                _watch(daemon, screen, stats, interval_s=args.interval)
        except KeyboardInterrupt:
            return 0
    if args.json:
        print_json(stats)
    else:
        from arasul_supervisor.cli.stats_table import print_stats

        print_stats(stats, _history(daemon))
    return 0


def _watch(daemon: Daemon, screen: Screen, stats: Mapping[str, object], *, interval_s: float) -> NoReturn:
    """Shows `stats` and what follows. A daemon that went away is said and waited for: it may be starting anew."""
    screen.show(stats)
    while True:
        time.sleep(interval_s)
        try:
            screen.show(daemon.get(STATS))
        except DaemonError as problem:
            screen.show_absence(problem.sentence)


def _history(daemon: Daemon) -> Mapping[str, object]:
    """The samples of the last minutes; empty from a daemon that keeps none."""
    try:
        return daemon.get(HISTORY)
    except Refused:
        return {}


def _screen(args: argparse.Namespace, daemon: Daemon) -> Screen:
    if args.json:
        return JsonLines()
    if not sys.stdout.isatty():
        return PlainLines()
    from arasul_supervisor.cli.stats_table import LiveTable

    return LiveTable(lambda: _history(daemon))


def _seconds(word: str) -> float:
    try:
        seconds = float(word)
    except ValueError:
        seconds = math.nan
    if math.isfinite(seconds) and seconds >= LEAST_INTERVAL_S:
        return seconds
    raise argparse.ArgumentTypeError(f"{word!r} is no number of seconds from {LEAST_INTERVAL_S:g}")


class JsonLines:
    """The samples as they are, a line each."""

    def __enter__(self) -> JsonLines:
        return self

    def __exit__(self, *end: object) -> None:
        pass

    def show(self, stats: Mapping[str, object]) -> None:
        """Prints the sample."""
        print_json(stats)
        sys.stdout.flush()

    def show_absence(self, sentence: str) -> None:
        """Says on stderr that there is none."""
        note(printable(sentence))


class PlainLines:
    """A short line for each sample: for pipes and files."""

    def __init__(self) -> None:
        self._said = ""

    def __enter__(self) -> PlainLines:
        return self

    def __exit__(self, *end: object) -> None:
        pass

    def show(self, stats: Mapping[str, object]) -> None:
        """Prints the sample."""
        self._said = ""
        print(sample_line(stats), flush=True)

    def show_absence(self, sentence: str) -> None:
        """Says it once for each absence, on stderr."""
        if sentence != self._said:
            note(printable(f"{sentence} Waiting for it."))
        self._said = sentence
