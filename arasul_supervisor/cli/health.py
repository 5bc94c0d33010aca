"""`health`: one question, one exit code, for Docker's HEALTHCHECK and for scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from arasul_supervisor.cli.client import DaemonError, accepted, daemon_of
from arasul_supervisor.cli.output import add_client_parser, field, print_json

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from arasul_supervisor.cli.output import Subparsers

FINE: Final = ("healthy", "degraded")
WORDS: Final = (*FINE, "starting", "unhealthy")
TIMEOUT_S: Final = 3.0  # the daemon answers from memory; a health check must end before its caller's patience


def add_parser(subparsers: Subparsers) -> None:
    """Adds the command."""
    add_client_parser(
        subparsers, "health", summary="exit 0 while the engine is healthy or degraded, 1 otherwise"
    )


def run(args: argparse.Namespace) -> int:
    """Prints the word, its reason and the four points."""
    daemon = daemon_of(args)
    answer = daemon.ask("GET", "/health", timeout_s=TIMEOUT_S)
    status = answer.body.get("status")
    if status not in WORDS:
        accepted(answer)
        raise DaemonError(f"What answers at {daemon.url} does not say how healthy it is.")
    if args.json:
        print_json(answer.body)
    else:
        print(health_text(answer.body))
        _print_checks(answer.body.get("checks"))
    return 0 if answer.is_ok and status in FINE else 1


def health_text(body: Mapping[str, object]) -> str:
    """The health in one sentence, `unhealthy: Ollama did not answer for 3 s`."""
    reason = body.get("reason")
    return f"{field(body, 'status')}: {reason}" if reason else field(body, "status")


def _print_checks(checks: object) -> None:
    if not isinstance(checks, dict):
        return
    for name, check in checks.items():
        if isinstance(check, dict):
            print(f"  {name:<6}  {field(check, 'status'):<7}  {check.get('detail') or ''}".rstrip())
