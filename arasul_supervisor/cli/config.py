"""`config`: each effective value, where it came from, and what it does to the engine. Needs no running daemon."""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from arasul_supervisor.ollama.environment import (
    MARKER_VARIABLE,
    EngineEnvironment,
    engine_environment,
    engine_generation,
    load_checked_settings,
)
from arasul_supervisor.settings import describe, warnings_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from arasul_supervisor.settings import SettingRow, Settings

_GPU_NOTE = (
    "The part of GPU memory to leave free is worked out at the spawn; this command does not ask the GPU."
)


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser(
        "config", help="print every setting, its origin, and its effect on the engine"
    )
    # suppressed, else this default would overwrite a --json before the command's name
    parser.add_argument(
        "--json", action="store_true", default=argparse.SUPPRESS, help="answer in JSON, for machines"
    )


def run(args: argparse.Namespace) -> int:
    """Print the settings of this environment."""
    return report(os.environ, output_format="json" if args.json else "text")


def report(environ: Mapping[str, str], *, output_format: str) -> int:
    """Print settings and engine environment as `text` or `json`; gives the exit code.

    :raises SettingsError: some are wrong; its `exit_code` is 2
    """
    for warning in warnings_for(environ):
        print(f"warning: {warning}", file=sys.stderr)
    settings = load_checked_settings(environ)
    version = _generation(settings)
    engine = engine_environment(settings, environ, version=version, gpus=(), marker="")
    rows = [_as_granted(row, engine) for row in describe(settings, environ)]
    lines = _json(rows, version, engine) if output_format == "json" else _text(rows, version, engine)
    for line in lines:
        print(line)
    return 0


def _generation(settings: Settings) -> tuple[int, int, int] | None:
    if settings.engine_binary is None:
        return None
    return engine_generation(settings.engine_binary, settings.state_dir)


def _as_granted(row: SettingRow, engine: EngineEnvironment) -> SettingRow:
    """The row without what an engine of this generation does not get."""
    variable = row.engine.partition("=")[0] if row.engine else None
    return row if variable in engine.derived else replace(row, engine=None)


def _text(
    rows: list[SettingRow], version: tuple[int, int, int] | None, engine: EngineEnvironment
) -> Iterator[str]:
    for row in rows:
        yield f"{row.variable} = {'(unset)' if row.value is None else row.value}   [{row.origin}]"
        yield f"    {row.effect}"
        if row.engine:
            yield f"    engine: {row.engine}"
    yield ""
    yield f"The engine ({_family(version)}) gets, beside what the environment has for it:"
    yield from (f"    {name}={value}" for name, value in _derived(engine).items())
    yield from (f"Note: {note}" for note in (*engine.notes, _GPU_NOTE))


def _json(
    rows: list[SettingRow], version: tuple[int, int, int] | None, engine: EngineEnvironment
) -> Iterator[str]:
    answer = {
        "settings": [asdict(row) for row in rows],
        "engine": {
            "family": _family(version),
            "variables": _derived(engine),
            "notes": [*engine.notes, _GPU_NOTE],
        },
    }
    yield json.dumps(answer, indent=2)


def _derived(engine: EngineEnvironment) -> dict[str, str]:
    """Without the marker, which is drawn anew for each life."""
    return {name: value for name, value in engine.derived.items() if name != MARKER_VARIABLE}


def _family(version: tuple[int, int, int] | None) -> str:
    if version is None:
        return "Ollama 0.29 or older, or of unknown version"
    return "Ollama {}.{}.{} or newer".format(*version)
