"""What the commands share in how they speak: options, JSON, figures in words."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from typing import TypeAlias

    Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

SIZES: Final = ("B", "kB", "MB", "GB", "TB")
UNPIPED_WIDTH: Final = 10_000  # a file or a pipe has no right edge


def add_client_parser(subparsers: Subparsers, name: str, *, summary: str) -> argparse.ArgumentParser:
    """A subcommand that talks to the daemon: `--url` and `--json` are taken after its name as well."""
    parser = subparsers.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
    parser.add_argument("--url", default=argparse.SUPPRESS, help="the daemon's address (or ARASUL_URL)")
    parser.add_argument(
        "--json", action="store_true", default=argparse.SUPPRESS, help="answer in JSON, for machines"
    )
    return parser


def print_json(value: object) -> None:
    """One line of JSON on stdout."""
    print(json.dumps(value, ensure_ascii=False))


def print_rows(rows: Iterable[tuple[str, str]]) -> None:
    """Pairs of a word and its value, the values aligned."""
    pairs = tuple(rows)
    width = max(len(word) for word, _ in pairs)
    for word, value in pairs:
        print(f"{word:<{width}}  {value}")


def print_table(
    heads: Sequence[str], rows: Iterable[Sequence[str]], *, right: Collection[str], lit: Collection[int] = ()
) -> None:
    """A table on stdout; on a terminal as wide as that, elsewhere as wide as it must be.

    :param right: the heads of columns of figures
    :param lit: the rows that stand out, counted from 0
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = UNPIPED_WIDTH
    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in heads:
        table.add_column(head, justify="right" if head in right else "left", overflow="fold")
    for at, row in enumerate(rows):
        table.add_row(*(Text(cell) for cell in row), style="green" if at in lit else None)
    console.print(table)


def note(sentence: str) -> None:
    """A remark beside the answer: on stderr, so that stdout holds the answer alone."""
    print(f"arasul-supervisor: {sentence}", file=sys.stderr, flush=True)


def field(body: Mapping[str, object], key: str) -> str:
    """A field of an answer in words; what is null or missing is unknown, never made up."""
    value = body.get(key)
    return "unknown" if value is None or value == "" else str(value)


def size_text(size_bytes: object) -> str:
    """Bytes in decimal units as `ollama list` shows them, 4661224676 → `4.7 GB`."""
    if not isinstance(size_bytes, (int, float)):
        return "unknown"
    size, unit = float(size_bytes), 0
    while size >= 999.5 and unit < len(SIZES) - 1:
        size, unit = size / 1000, unit + 1
    return f"{size:.1f} {SIZES[unit]}" if unit and size < 99.95 else f"{size:.0f} {SIZES[unit]}"


def duration_text(duration_s: object) -> str:
    """Seconds in the two largest units, 11520 → `3 h 12 min`."""
    if not isinstance(duration_s, (int, float)):
        return "unknown"
    minutes, seconds = divmod(int(duration_s), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = ((days, "d"), (hours, "h"), (minutes, "min"), (seconds, "s"))
    first = next((at for at, (count, _) in enumerate(parts) if count), len(parts) - 1)
    return " ".join(f"{count} {unit}" for count, unit in parts[first : first + 2])


def instant_text(instant: object) -> str:
    """An RFC 3339 instant without its fraction, `2026-11-23T15:04:05.123Z` → `2026-11-23 15:04:05 UTC`."""
    if not isinstance(instant, str) or len(instant) < 19:
        return "unknown"
    zone = instant[19:].lstrip(".0123456789")
    return f"{instant[:10]} {instant[11:19]} {'UTC' if zone in ('Z', '+00:00') else zone}".rstrip()
