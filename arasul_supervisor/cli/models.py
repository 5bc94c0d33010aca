"""`models` and `rm`: what is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from arasul_supervisor.cli.bodies import part
from arasul_supervisor.cli.client import DaemonError, accepted, daemon_of, objects
from arasul_supervisor.cli.job_words import broken_lines
from arasul_supervisor.cli.output import (
    add_client_parser,
    field,
    instant_text,
    print_json,
    print_table,
    size_text,
)

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from arasul_supervisor.cli.client import Daemon
    from arasul_supervisor.cli.output import Subparsers

OWN: Final = "OWN"  # what its removal would free; the rest of its size it shares with others
HEADS: Final = ("NAME", "SIZE", OWN, "QUANTIZATION", "FAMILY", "MODIFIED", "LOADED")
REMOVE_TIMEOUT_S: Final = 20.0  # the daemon unloads first and answers within 15 s


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
    if models:
        _print_models(models, _loaded(daemon))
    else:
        print("No model is installed; `arasul-supervisor pull` gets the default one.")
    for line in broken_lines(answer):
        print(f"broken: {line}")
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


def _print_models(models: Sequence[Mapping[str, object]], loaded: Mapping[str, str] | None) -> None:
    """The table; without the own bytes where the daemon is too old to tell any."""
    columns = [head for head in HEADS if head != OWN or any("disk_bytes" in model for model in models)]
    cells = [_cells(model, loaded) for model in models]
    lit = [at for at, model in enumerate(models) if field(model, "name") in (loaded or {})]
    print_table(columns, [[row[head] for head in columns] for row in cells], right=("SIZE", OWN), lit=lit)


def _cells(model: Mapping[str, object], loaded: Mapping[str, str] | None) -> Mapping[str, str]:
    name = field(model, "name")
    return {
        "NAME": name,
        "SIZE": size_text(model.get("size")),
        OWN: size_text(part(model, "disk_bytes").get("own")),
        "QUANTIZATION": field(model, "quantization"),
        "FAMILY": field(model, "family"),
        "MODIFIED": instant_text(model.get("modified_at")),
        "LOADED": "unknown" if loaded is None else loaded.get(name, ""),
    }


def _remove(args: argparse.Namespace) -> int:
    path = f"/api/models/delete?model={quote(args.name, safe='')}"
    answer = accepted(daemon_of(args).ask("DELETE", path, timeout_s=REMOVE_TIMEOUT_S))
    if args.json:
        print_json(answer)
    else:
        print(f"Removed {args.name}, {size_text(answer.get('freed_bytes'))} freed")
    return 0
