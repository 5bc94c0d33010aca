"""The public log with its older files, as a person puts them together again."""

from __future__ import annotations

import gzip
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def older_files(folder: Path) -> list[bytes]:
    """What each rotated file holds, unpacked, the oldest first."""
    while True:
        try:
            return _older_files(folder)
        except FileNotFoundError:  # it was compressed just now; that happens once to each
            continue


def _older_files(folder: Path) -> list[bytes]:
    found: dict[int, bytes] = {}
    for path in sorted(
        folder.glob("ollama.log.*"), reverse=True
    ):  # `.2.gz` before `.2`, while both are there
        named = re.fullmatch(r"ollama\.log\.(\d+)(\.gz)?", path.name)
        if named:
            content = path.read_bytes()
            found[int(named[1])] = gzip.decompress(content) if named[2] else content
    return [found[number] for number in sorted(found, reverse=True)]


def whole_log(folder: Path) -> bytes:
    """All lines, the oldest first."""
    public = folder / "ollama.log"
    return b"".join(older_files(folder)) + (public.read_bytes() if public.exists() else b"")
