"""`version`: of this program, of the daemon it can reach, and of the daemon's engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from arasul_supervisor import __version__
from arasul_supervisor.cli.client import DaemonError, daemon_of
from arasul_supervisor.cli.output import add_client_parser, field, print_json, print_rows

if TYPE_CHECKING:
    import argparse

    from arasul_supervisor.cli.output import Subparsers

TIMEOUT_S: Final = 2.0


def add_parser(subparsers: Subparsers) -> None:
    """Adds the command."""
    add_client_parser(subparsers, "version", summary="the versions of this program, the daemon and Ollama")


def run(args: argparse.Namespace) -> int:
    """Prints what is known; that no daemon runs is no error here."""
    daemon = daemon_of(args)
    try:
        about = daemon.get("/api/info", timeout_s=TIMEOUT_S)
    except DaemonError:
        about = {}
    if args.json:
        versions = {"daemon_version": about.get("version"), "ollama_version": about.get("ollama_version")}
        print_json({"version": __version__, **versions})
        return 0
    where = daemon.url if about else f"not reached at {daemon.url}"
    print_rows(
        (
            ("arasul-supervisor", __version__),
            ("daemon", f"{field(about, 'version')} ({where})"),
            ("ollama", field(about, "ollama_version")),
        )
    )
    return 0
