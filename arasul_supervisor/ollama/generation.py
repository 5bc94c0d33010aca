"""Which generation of Ollama a binary is, known without running it: from a note of its last life, else by its files."""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

# The release in which llama-server took the place of the runners inside the binary (facts: ollama.md).
LLAMA_SERVER_SINCE: Final = (0, 30, 0)

_NOTE: Final = "engine.json"
_VERSION: Final = re.compile(r"v?([0-9]{1,6})\.([0-9]{1,6})\.([0-9]{1,6})(?![0-9])")


def engine_generation(binary: Path, state_dir: Path) -> tuple[int, int, int] | None:
    """The version the engine named when this very file last ran; else 0.30.0 where its llama-server lies; else None.

    None means 0.29 or older, or a binary without its llama-server, which can load nothing anyway.
    """
    remembered = _remembered_version(binary, state_dir)
    if remembered:
        return remembered
    return LLAMA_SERVER_SINCE if has_llama_server(binary) else None


def remember_version(binary: Path, state_dir: Path, version: str) -> None:
    """Note what /api/version said, for the next launch. A note that cannot be written is only a lost shortcut.

    0.0.0 is what a build without a version says, so it tells nothing.
    """
    identity = _identity(binary)
    if identity is None or _parse(version) in {None, (0, 0, 0)}:
        return
    fresh = state_dir / f"{_NOTE}.new"
    with suppress(OSError):
        state_dir.mkdir(parents=True, exist_ok=True)
        fresh.write_text(json.dumps({"binary": identity, "version": version}), encoding="utf-8")
        fresh.replace(state_dir / _NOTE)


def has_llama_server(binary: Path) -> bool:
    """Whether llama-server lies where Ollama looks for it: beside the real file, or in ../lib/ollama."""
    folder = os.path.dirname(os.path.realpath(binary))
    return any(os.path.isfile(f"{folder}/{place}llama-server") for place in ("", "../lib/ollama/"))


def has_llama_servers(version: str | None) -> bool:
    """Whether an engine that names this version has llama-servers for runners; one that names none is taken for new."""
    known = _parse(version)
    return known in (None, (0, 0, 0)) or known >= LLAMA_SERVER_SINCE


def _remembered_version(binary: Path, state_dir: Path) -> tuple[int, int, int] | None:
    try:
        note = json.loads((state_dir / _NOTE).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # no note yet, or a damaged one
        return None
    if not isinstance(note, dict) or note.get("binary") != _identity(binary):
        return None
    return _parse(note.get("version"))


def _identity(binary: Path) -> list[str | int] | None:
    """What changes when the file does: an update is never taken for the version before it."""
    try:
        status = binary.stat()
    except OSError:
        return None
    return [str(binary), status.st_mtime_ns, status.st_size]


def _parse(version: object) -> tuple[int, int, int] | None:
    match = _VERSION.match(version) if isinstance(version, str) else None
    return (int(match[1]), int(match[2]), int(match[3])) if match else None
