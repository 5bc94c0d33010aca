"""`pulls`: the jobs of the daemon, which are pulls and checks of models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from arasul_supervisor.cli.bodies import printable, word
from arasul_supervisor.cli.client import daemon_of, objects
from arasul_supervisor.cli.job_words import broken_lines, figures_of
from arasul_supervisor.cli.jobs import JOBS
from arasul_supervisor.cli.output import add_client_parser, duration_text, print_json, print_table, size_text

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping

    from arasul_supervisor.cli.output import Subparsers

HEADS: Final = ("ID", "KIND", "MODEL", "STATE", "DONE", "BYTES", "SPEED", "LEFT", "ATTEMPTS")
RIGHT: Final = ("DONE", "SPEED", "LEFT", "ATTEMPTS")


def add_parser(subparsers: Subparsers) -> None:
    """Adds the command."""
    add_client_parser(subparsers, "pulls", summary="the pulls and checks of models, newest first")


def run(args: argparse.Namespace) -> int:
    """Prints the table, and below it what went wrong with whom."""
    answer = daemon_of(args).get(JOBS)
    if args.json:
        print_json(answer)
        return 0
    jobs = objects(answer, "pulls")
    if not jobs:
        print("No pull is known; `arasul-supervisor pull` begins one.")
        return 0
    print_table(HEADS, [_row(job) for job in jobs], right=RIGHT)
    for line in (line for job in jobs for line in _remarks(job)):
        print(line)
    return 0


def _row(job: Mapping[str, object]) -> tuple[str, ...]:
    figures = figures_of(job)
    total = figures.total_bytes
    sizes = f"{size_text(figures.completed_bytes)} of {size_text(total)}" if total is not None else ""
    speed, left = figures.speed_bytes_per_s, figures.eta_s
    return (
        word(job, "id"),
        word(job, "kind") or "pull",
        word(job, "model") or "all",
        figures.state or "unknown",
        "" if figures.percent is None else f"{figures.percent} %",
        sizes,
        "" if speed is None else f"{size_text(speed)}/s",
        "" if left is None else duration_text(left),
        str(figures.attempt) if figures.attempt else "",
    )


def _remarks(job: Mapping[str, object]) -> Iterator[str]:
    """`4f1c…: The disk …` for the error of a job, and for each model that a check found broken."""
    job_id = word(job, "id")
    if error := word(job, "error"):
        yield printable(f"{job_id}: {error}")
    for line in broken_lines(job):
        yield f"{job_id}: {line}"
