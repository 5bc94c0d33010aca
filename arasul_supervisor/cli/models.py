"""`models` and `rm`: what is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from arasul_supervisor.cli.client import DaemonError, accepted, daemon_of, objects
from arasul_supervisor.cli.output import add_client_parser, field, instant_text, print_json, size_text

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Mapping, Sequence

    from arasul_supervisor.cli.client import Daemon
    from arasul_supervisor.cli.output import Subparsers

HEADS: Final = ("NAME", "SIZE", "QUANTIZATION", "FAMILY", "MODIFIED", "LOADED")
REMOVE_TIMEOUT_S: Final = 20.0  # the daemon unloads first and answers within 15 s
UNPIPED_WIDTH: Final = 10_000  # a file or a pipe has no right edge


def add_parser(subparsers: Subparsers) -> None:
    """Adds the commands."""
    add_client_parser(subparsers, "models", summary="the installed models, and which of them are loaded")
    remove = add_client_parser(subparsers, "rm", summary="unload a model and remove it from the disk")
    remove.add_argument("name", metavar="NAME", help="as `models` shows it")


def run(args: argparse.Namespace) -> int:
    """Runs one of the two."""
    return _remove(args) if args.command == "rm" else _list(args)


def _list(args: argparse.Namespace) -> int:
    daemon = daemon_of(args)
    answer = daemon.get("/api/models")
    if args.json:
        print_json(answer)
        return 0
    models = objects(answer, "models")
    if not models:
        print("No model is installed; `arasul-supervisor pull` gets the default one.")
        return 0
    loaded = _loaded(daemon)
    _print_table([_row(model, loaded) for model in models])
    return 0


def _loaded(daemon: Daemon) -> Mapping[str, str] | None:
    """Loaded models' names and where they lie; None when the engine does not say."""
    try:
        body = daemon.get("/api/models/loaded")
    except DaemonError:
        return None
    return {field(model, "name"): _place(model) for model in objects(body, "loaded_models")}


def _place(model: Mapping[str, object]) -> str:
    percent = model.get("gpu_percent")
    return f"{percent:.0f} % GPU" if isinstance(percent, (int, float)) else "yes"


def _row(model: Mapping[str, object], loaded: Mapping[str, str] | None) -> tuple[str, ...]:
    name = field(model, "name")
    return (
        name,
        size_text(model.get("size")),
        field(model, "quantization"),
        field(model, "family"),
        instant_text(model.get("modified_at")),
        "unknown" if loaded is None else loaded.get(name, ""),
    )


def _print_table(rows: Iterable[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = UNPIPED_WIDTH
    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in HEADS:
        table.add_column(head, justify="right" if head == "SIZE" else "left", overflow="fold")
    for row in rows:
        table.add_row(
            *(Text(cell) for cell in row), style="green" if row[-1] not in ("", "unknown") else None
        )
    console.print(table)


def _remove(args: argparse.Namespace) -> int:
    path = f"/api/models/delete?model={quote(args.name, safe='')}"
    answer = accepted(daemon_of(args).ask("DELETE", path, timeout_s=REMOVE_TIMEOUT_S))
    if args.json:
        print_json(answer)
    else:
        print(f"Removed {args.name}, {size_text(answer.get('freed_bytes'))} freed")
    return 0
