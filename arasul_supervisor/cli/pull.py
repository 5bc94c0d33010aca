"""`pull`: downloads a model through the daemon, and shows how it goes.

The pull is the daemon's: Ctrl-C leaves it running, and the same command joins it again.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from arasul_supervisor.cli.client import DaemonError, Silent, daemon_of, objects
from arasul_supervisor.cli.output import add_client_parser, note
from arasul_supervisor.cli.pull_progress import JsonProgress, PlainProgress

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping

    from arasul_supervisor.cli.client import Daemon
    from arasul_supervisor.cli.output import Subparsers
    from arasul_supervisor.cli.pull_progress import Progress

SILENCE_S: Final = 60.0  # a large layer is verified for minutes without a word
ACTIVE: Final = ("queued", "running", "retrying")
INTERRUPTED: Final = 130


def add_parser(subparsers: Subparsers) -> None:
    """Adds the command."""
    parser = add_client_parser(subparsers, "pull", summary="download a model; Ctrl-C leaves it to the daemon")
    parser.add_argument("name", metavar="NAME", nargs="?", help="the daemon's default model when not given")
    parser.add_argument("--insecure", action="store_true", help="the registry speaks plain HTTP")


def run(args: argparse.Namespace) -> int:
    """Pulls to the end, and says nothing of success before the daemon did."""
    daemon = daemon_of(args)
    name: str = args.name or _default_model(daemon)
    last: Mapping[str, object] = {}
    try:
        with _progress(args) as progress:
            for last in _lines(daemon, name, is_insecure=args.insecure):
                progress.show(last)
    except KeyboardInterrupt:
        note(_way_back(daemon, name))
        return INTERRUPTED
    except DaemonError as problem:
        if not last:
            raise
        raise DaemonError(problem.sentence, hint=_joining(name)) from None
    if error := last.get("error"):
        raise DaemonError(str(error))
    if last.get("status") != "success":
        raise DaemonError("The daemon's report of the pull broke off.", hint=_joining(name))
    return 0


def _default_model(daemon: Daemon) -> str:
    name = daemon.get("/api/info").get("default_model")
    if isinstance(name, str) and name:
        return name
    raise DaemonError(f"The daemon at {daemon.url} names no default model; give one.")


def _progress(args: argparse.Namespace) -> Progress:
    if args.json:
        return JsonProgress()
    if not sys.stdout.isatty():
        return PlainProgress()
    from arasul_supervisor.cli.progress_bar import BarProgress

    return BarProgress()


def _lines(daemon: Daemon, name: str, *, is_insecure: bool) -> Iterator[Mapping[str, object]]:
    """The lines of the pull to the last one.

    A silent stream is taken up anew once the daemon showed that it lives: who asks for a model that is being
    pulled joins that pull.
    """
    while True:
        try:
            body = {"model": name, "stream": True, **({"insecure": True} if is_insecure else {})}
            yield from daemon.stream("POST", "/api/models/pull", body=body, timeout_s=SILENCE_S)
        except Silent:
            daemon.get("/livez")
        else:
            return


def _joining(name: str) -> str:
    return f"The pull may go on; `arasul-supervisor pull {name}` joins it."


def _way_back(daemon: Daemon, name: str) -> str:
    """What to do after Ctrl-C, with the id of the pull where the daemon still tells it."""
    back = f"The pull of {name} goes on in the daemon; `arasul-supervisor pull {name}` shows it again"
    job = _active_job(daemon, name)
    if job is None:
        return f"{back}, GET {daemon.url}/api/models/pulls lists it."
    return f"{back}, `curl -X DELETE {daemon.url}/api/models/pulls/{job}` cancels it."


def _active_job(daemon: Daemon, name: str) -> str | None:
    try:
        pulls = objects(daemon.get("/api/models/pulls"), "pulls")
    except DaemonError:
        return None
    names = (name, f"{name}:latest")
    return next(
        (str(job["id"]) for job in pulls if job.get("state") in ACTIVE and job.get("model") in names), None
    )
