"""`incidents`: what happened, what was done about it, and whether it helped."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from arasul_supervisor.cli.bodies import number, part, printable, word
from arasul_supervisor.cli.client import daemon_of, objects
from arasul_supervisor.cli.output import (
    add_client_parser,
    duration_text,
    instant_text,
    print_json,
    print_rows,
    print_table,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from arasul_supervisor.cli.output import Subparsers

INCIDENTS: Final = "/api/incidents"
MOST: Final = 200  # what the daemon keeps
HEADS: Final = ("ID", "WHEN", "KIND", "MODEL", "ACTION", "RESULT", "DOWNTIME")


def add_parser(subparsers: Subparsers) -> None:
    """Adds the command."""
    parser = add_client_parser(
        subparsers, "incidents", summary="what went wrong, and what was done about it, newest first"
    )
    parser.add_argument("id", nargs="?", metavar="ID", help="all that is known of this one")
    parser.add_argument(
        "-n", type=_count, default=20, dest="limit", metavar="N", help="how many (default 20)"
    )


def run(args: argparse.Namespace) -> int:
    """Prints the table, or one incident."""
    daemon = daemon_of(args)
    path = f"{INCIDENTS}/{quote(args.id, safe='')}" if args.id else f"{INCIDENTS}?limit={args.limit}"
    answer = daemon.get(path)
    if args.json:
        print_json(answer)
    elif args.id:
        _print_one(answer)
    else:
        _print_all(answer)
    return 0


def _count(text: str) -> int:
    if text.isdecimal() and 1 <= int(text) <= MOST:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to {MOST}")


def _print_all(answer: Mapping[str, object]) -> None:
    incidents = objects(answer, "incidents")
    if not incidents:
        print("No incident is known.")
        return
    print_table(HEADS, [_row(incident) for incident in incidents], right=("DOWNTIME",))


def _row(incident: Mapping[str, object]) -> tuple[str, ...]:
    count = number(incident, "count") or 1
    return (
        printable(word(incident, "id")),
        instant_text(incident.get("at")),
        printable(word(incident, "kind")) + (f" ×{count:.0f}" if count > 1 else ""),
        printable(word(incident, "model")),
        printable(word(incident, "action")),
        printable(word(incident, "result")),
        _downtime(incident),
    )


def _print_one(incident: Mapping[str, object]) -> None:
    print_rows((word_, printable(text)) for word_, text in _rows(incident))
    steps = objects(incident, "steps")
    if steps:
        print("\nWhat was done:")
        print_rows((instant_text(step.get("at")), _step(step)) for step in steps)
    _print_witnesses(part(incident, "witnesses_before"), part(incident, "witnesses_after"))
    lines = incident.get("log_tail")
    if isinstance(lines, list) and lines:
        print("\nWhat the engine said last:")
        for line in lines:
            print(printable(str(line)))


def _rows(incident: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """`what  The runner of tiny stands still.` and so on; what is not known or not there is left out."""
    yield "incident", word(incident, "id")
    yield "when", instant_text(incident.get("at"))
    count = number(incident, "count") or 1
    if count > 1:
        yield "count", f"{count:.0f}, the last at {instant_text(incident.get('last_at'))}"
    for key in ("kind", "model", "what", "evidence", "action", "result", "detail"):
        if text := word(incident, key):
            yield key, text
    if incident.get("ended_at"):
        yield "ended", instant_text(incident.get("ended_at"))
    if downtime := _downtime(incident):
        yield "downtime", downtime
    generation = number(incident, "generation")
    if generation is not None:
        yield "generation", f"{generation:.0f}"


def _step(step: Mapping[str, object]) -> str:
    action, detail = word(step, "action"), word(step, "detail")
    return printable(f"{action}: {detail}" if detail else action)


def _print_witnesses(before: Mapping[str, object], after: Mapping[str, object]) -> None:
    names = tuple(dict.fromkeys((*before, *after)))
    if not names:
        return
    print()
    rows = [[printable(name), _figure(before, name), _figure(after, name)] for name in names]
    print_table(("WITNESS", "BEFORE", "AFTER"), rows, right=())


def _figure(witnesses: Mapping[str, object], name: str) -> str:
    if name not in witnesses:
        return ""
    figure = witnesses[name]
    if figure is None:
        return "unknown"
    return f"{figure:.6g}" if isinstance(figure, float) else printable(str(figure))


def _downtime(incident: Mapping[str, object]) -> str:
    """Seconds with a tenth below ten, for most are that short; nothing where it is not known."""
    seconds = number(incident, "downtime_s")
    if seconds is None:
        return ""
    return f"{seconds:.1f} s" if seconds < 10 else duration_text(seconds)
