"""`verify` and `repair`: whether the models on disk are what they should be, and fetching anew what is not."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from arasul_supervisor.cli.bodies import word
from arasul_supervisor.cli.client import DaemonError, Refused, accepted, daemon_of
from arasul_supervisor.cli.job_words import broken_lines
from arasul_supervisor.cli.jobs import DONE, NO_SUCH_JOB, UNDER_WAY, job_path
from arasul_supervisor.cli.output import add_client_parser, note
from arasul_supervisor.cli.pull_progress import progress_for

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from arasul_supervisor.cli.client import Daemon
    from arasul_supervisor.cli.output import Subparsers

SUMMARIES: Final = {
    "verify": "compare the models on disk with their digests",
    "repair": "compare them, and pull again what is broken",
}
POLL_S: Final = 0.5
INTERRUPTED: Final = 130


def add_parser(subparsers: Subparsers) -> None:
    """Adds the commands."""
    for command, summary in SUMMARIES.items():
        parser = add_client_parser(subparsers, command, summary=summary)
        parser.add_argument("name", metavar="NAME", nargs="?", help="all models when not given")


def run(args: argparse.Namespace) -> int:
    """Follows the check to its end; 1 when something is broken then."""
    daemon = daemon_of(args)
    body = {"model": args.name} if args.name else {}
    job = accepted(daemon.ask("POST", f"/api/models/{args.command}", body=body))
    try:
        job = _followed(daemon, job, args)
    except KeyboardInterrupt:
        note(
            f"The {args.command} goes on in the daemon; `{_again(args.command, args.name)}` shows it again, "
            f"`curl -X DELETE {daemon.url}{job_path(word(job, 'id'))}` cancels it."
        )
        return INTERRUPTED
    return _outcome(job, args)


def _followed(daemon: Daemon, job: Mapping[str, object], args: argparse.Namespace) -> Mapping[str, object]:
    """The job at its end, shown on the way there."""
    path = job_path(word(job, "id"))
    with progress_for(is_json=args.json) as progress:
        progress.show_job(job)
        while job.get("state") in UNDER_WAY:
            time.sleep(POLL_S)
            job = _looked_at(daemon, path, args)
            progress.show_job(job)
    return job


def _looked_at(daemon: Daemon, path: str, args: argparse.Namespace) -> Mapping[str, object]:
    try:
        return daemon.get(path)
    except Refused as problem:
        if problem.key != NO_SUCH_JOB:
            raise
        hint = f"`{_again(args.command, args.name)}` begins it again."
        raise DaemonError(
            f"The daemon was started anew, which ended the {args.command}.", hint=hint
        ) from None


def _outcome(job: Mapping[str, object], args: argparse.Namespace) -> int:
    broken = list(broken_lines(job))
    if not args.json:
        for line in broken:
            print(line)
    if job.get("state") != DONE:
        raise DaemonError(word(job, "error") or f"The {args.command} ended as {word(job, 'state')}.")
    if not broken and not args.json:
        print(f"{args.name} is whole." if args.name else "Every model is whole.")
    if broken and args.command == "verify":
        note(f"`{_again('repair', args.name)}` pulls again what is broken.")
    return 1 if broken else 0


def _again(command: str, name: str | None) -> str:
    return f"arasul-supervisor {command} {name}" if name else f"arasul-supervisor {command}"
