"""`status`, `start`, `stop`, `restart`: the engine's process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from arasul_supervisor.cli.client import DaemonError, accepted, daemon_of
from arasul_supervisor.cli.health import health_text
from arasul_supervisor.cli.output import (
    add_client_parser,
    duration_text,
    field,
    instant_text,
    print_json,
    print_rows,
)

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping

    from arasul_supervisor.cli.output import Subparsers

SUMMARIES: Final = {
    "start": "start the engine and wait until it answers",
    "stop": "stop the engine and keep it stopped",
    "restart": "stop the engine, start it, and wait until it answers",
}
SETTLED: Final = {"start": "running", "stop": "stopped", "restart": "running"}
# The daemon bounds the wait by its own time-outs, which it knows and we do not; this one ends the wait for a
# daemon that is itself stuck.
SETTLE_TIMEOUT_S: Final = 1800.0


def add_parser(subparsers: Subparsers) -> None:
    """Adds the commands."""
    add_client_parser(subparsers, "status", summary="what the engine does, and how healthy it is")
    for command, summary in SUMMARIES.items():
        parser = add_client_parser(subparsers, command, summary=summary)
        parser.add_argument(
            "--no-wait", action="store_true", help="only ask for it; do not wait for the outcome"
        )


def run(args: argparse.Namespace) -> int:
    """Runs one of the four."""
    return _status(args) if args.command == "status" else _change(args)


def _status(args: argparse.Namespace) -> int:
    daemon = daemon_of(args)
    process = daemon.get("/api/process")
    health = daemon.ask("GET", "/health").body
    if args.json:
        print_json({"process": process, "health": health})
    else:
        print_rows(_rows(process, health))
    return 0


def _rows(process: Mapping[str, object], health: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    gave_up = " (gave up)" if process.get("gave_up") is True else ""
    yield "state", field(process, "state") + gave_up
    yield "wanted", field(process, "wanted")
    yield "pid", "none" if process.get("pid") is None else field(process, "pid")
    yield "uptime", "none" if process.get("uptime_s") is None else duration_text(process["uptime_s"])
    yield "restarts", field(process, "restarts")
    if process.get("next_attempt_at") is not None:
        yield "next start", instant_text(process["next_attempt_at"])
    yield "last exit", _last_exit_text(process)
    yield "health", health_text(health)


def _last_exit_text(process: Mapping[str, object]) -> str:
    last_exit = process.get("last_exit")
    if not isinstance(last_exit, dict):
        return "none"
    return f"{field(last_exit, 'reason')} ({instant_text(last_exit.get('at'))})"


def _change(args: argparse.Namespace) -> int:
    daemon = daemon_of(args)
    path = f"/api/process/{args.command}"
    if args.no_wait:
        process = accepted(daemon.ask("POST", f"{path}?wait=false"))
    else:
        process = _settled(accepted(daemon.ask("POST", path, timeout_s=SETTLE_TIMEOUT_S)), args.command)
    if args.json:
        print_json(process)
    else:
        pid = "" if process.get("pid") is None else f", pid {process['pid']}"
        print(f"{field(process, 'state')}{pid}")
    return 0


def _settled(process: Mapping[str, object], command: str) -> Mapping[str, object]:
    """The process, when it settled as asked: a start that ended in back-off is no success."""
    if process.get("state") == SETTLED[command]:
        return process
    sentence = f"The {command} ended in state {field(process, 'state')}"
    last_exit = process.get("last_exit")
    because = f" ({field(last_exit, 'reason')})" if isinstance(last_exit, dict) else ""
    raise DaemonError(f"{sentence}{because}; `arasul-supervisor logs` shows the engine's lines.")
