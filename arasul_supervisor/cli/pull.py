"""`pull`: downloads a model through the daemon, and shows how it goes.

The pull is the daemon's: Ctrl-C leaves it running, and the same command joins it again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from arasul_supervisor.cli.bodies import word
from arasul_supervisor.cli.client import DaemonError, accepted, daemon_of
from arasul_supervisor.cli.jobs import ENDED_SHORT, JOBS, UNDER_WAY, job_path, newest_pull
from arasul_supervisor.cli.output import add_client_parser, note, print_json, size_text
from arasul_supervisor.cli.pull_progress import progress_for
from arasul_supervisor.cli.pull_watch import PULL, Patience, Wish, patiently, wait_for_model, watch_pull
from arasul_supervisor.errors import ArasulError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping

    from arasul_supervisor.cli.client import Daemon
    from arasul_supervisor.cli.output import Subparsers

CANCEL_TIMEOUT_S: Final = 15.0  # the daemon answers within 10 s
INTERRUPTED: Final = 130


class PurgeAlone(ArasulError):
    """--purge belongs to --cancel: it removes what a cancelled pull leaves on disk."""

    exit_code: ClassVar[int] = 2


class NoName(ArasulError):
    """NAME is empty; leave it out to pull the daemon's default model."""

    exit_code: ClassVar[int] = 2


def add_parser(subparsers: Subparsers) -> None:
    """Adds the command."""
    parser = add_client_parser(subparsers, "pull", summary="download a model; Ctrl-C leaves it to the daemon")
    parser.add_argument("name", metavar="NAME", nargs="?", help="the daemon's default model when not given")
    parser.add_argument("--insecure", action="store_true", help="the registry speaks plain HTTP")
    way = parser.add_mutually_exclusive_group()
    way.add_argument(
        "--wait",
        action="store_true",
        help="stay until the model is there, through restarts of the daemon and a full disk",
    )
    way.add_argument("--background", action="store_true", help="only begin it")
    way.add_argument("--cancel", action="store_true", help="cancel the pull of NAME that is under way")
    parser.add_argument("--purge", action="store_true", help="with --cancel: remove what it has fetched too")


def run(args: argparse.Namespace) -> int:
    """Pulls to the end, and says nothing of success before the daemon did.

    :raises PurgeAlone: `--purge` without `--cancel`
    :raises NoName: an empty NAME, which a script's empty variable makes
    """
    if args.purge and not args.cancel:
        raise PurgeAlone
    if args.name is not None and not args.name.strip():
        raise NoName
    daemon = daemon_of(args)
    wish = Wish(args.name or _default_model(daemon, args), args.insecure)
    if args.cancel:
        return _cancel(daemon, wish.name, args)
    if args.background:
        return _begin(daemon, wish, args)
    try:
        with progress_for(is_json=args.json) as progress:
            (wait_for_model if args.wait else watch_pull)(daemon, wish, progress)
    except KeyboardInterrupt:
        note(_way_back(daemon, wish))
        return INTERRUPTED
    return 0


def _default_model(daemon: Daemon, args: argparse.Namespace) -> str:
    about = (
        patiently(lambda: daemon.get("/api/info"), Patience(note)) if args.wait else daemon.get("/api/info")
    )
    name = about.get("default_model")
    if isinstance(name, str) and name:
        return name
    raise DaemonError(f"The daemon at {daemon.url} names no default model; give one.")


def _begin(daemon: Daemon, wish: Wish, args: argparse.Namespace) -> int:
    job = accepted(daemon.ask("POST", PULL, body=wish.body(background=True)))
    if args.json:
        print_json(job)
        return 0
    print(
        f"The daemon pulls {wish.name}; `arasul-supervisor pulls` lists it, "
        f"`arasul-supervisor pull {wish.name}` shows it, with --cancel it ends."
    )
    return 0


def _cancel(daemon: Daemon, name: str, args: argparse.Namespace) -> int:
    """Ends the pull. With `--purge` one that has ended already will do: what it left is still there."""
    job = newest_pull(daemon, name, states=UNDER_WAY)
    if job is None and args.purge:
        job = newest_pull(daemon, name, states=ENDED_SHORT)
    if job is None:
        raise DaemonError(f"No pull of {name} is under way; `arasul-supervisor pulls` lists them all.")
    path = job_path(word(job, "id")) + ("?purge=true" if args.purge else "")
    ended = accepted(daemon.ask("DELETE", path, timeout_s=CANCEL_TIMEOUT_S))
    if args.json:
        print_json(ended)
        return 0
    if ended.get("state") == "done":
        print(f"{name} was there before it could be cancelled; `arasul-supervisor rm {name}` removes it.")
        return 0
    print("; ".join((f"Cancelled the pull of {name}", *_leavings(ended))))
    return 0


def _leavings(job: Mapping[str, object]) -> Iterator[str]:
    """What a cancelled pull left on disk, and what was removed of it."""
    is_purged = job.get("purged_bytes") is not None
    if is_purged:
        yield f"{size_text(job['purged_bytes'])} freed"
    if job.get("kept_bytes"):
        why = "which others use" if is_purged else "where its next pull goes on from"
        yield f"{size_text(job['kept_bytes'])} stay on disk, {why}"


def _way_back(daemon: Daemon, wish: Wish) -> str:
    """What to do after Ctrl-C; how to cancel only where there is still something to cancel."""
    name, again = wish.name, f"{wish.name} --insecure" if wish.is_insecure else wish.name
    back = f"The pull of {name} goes on in the daemon; `arasul-supervisor pull {again}` shows it again"
    try:
        job = newest_pull(daemon, name, states=UNDER_WAY)
    except DaemonError:
        job = None
    if job is None:
        return f"{back}, GET {daemon.url}{JOBS} lists it."
    return f"{back}, `arasul-supervisor pull {name} --cancel` ends it."
