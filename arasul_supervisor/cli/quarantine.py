"""`quarantine`: the models that killed the engine, and the way back for each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from arasul_supervisor.cli.bodies import number, printable, word
from arasul_supervisor.cli.client import accepted, daemon_of, objects
from arasul_supervisor.cli.output import add_client_parser, instant_text, print_json, print_table

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from arasul_supervisor.cli.output import Subparsers

QUARANTINE: Final = "/api/models/quarantine"
HEADS: Final = ("MODEL", "SINCE", "CRASHES", "REASON")


def add_parser(subparsers: Subparsers) -> None:
    """Adds the command."""
    parser = add_client_parser(
        subparsers, "quarantine", summary="the models that are kept from the engine because they killed it"
    )
    acts = parser.add_subparsers(dest="act", metavar="list|lift")
    add_client_parser(acts, "list", summary="show them, which is the default")
    lift = add_client_parser(acts, "lift", summary="let a model be used again")
    lift.add_argument("name", metavar="NAME", help="as `quarantine list` shows it")


def run(args: argparse.Namespace) -> int:
    """Shows them, or lifts one."""
    return _lift(args) if args.act == "lift" else _list(args)


def _list(args: argparse.Namespace) -> int:
    answer = daemon_of(args).get(QUARANTINE)
    if args.json:
        print_json(answer)
        return 0
    models = objects(answer, "quarantined")
    if not models:
        print("No model is quarantined.")
        return 0
    print_table(HEADS, [_row(model) for model in models], right=("CRASHES",))
    return 0


def _row(model: Mapping[str, object]) -> tuple[str, ...]:
    crashes = number(model, "crashes")
    return (
        printable(word(model, "name")),
        instant_text(model.get("since_at")),
        "unknown" if crashes is None else f"{crashes:.0f}",
        printable(word(model, "reason")),
    )


def _lift(args: argparse.Namespace) -> int:
    answer = accepted(daemon_of(args).ask("DELETE", f"{QUARANTINE}/{quote(args.name, safe='')}"))
    if args.json:
        print_json(answer)
    else:
        print(printable(word(answer, "message")))
    return 0
