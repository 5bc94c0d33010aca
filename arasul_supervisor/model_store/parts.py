"""The unfinished parts of a pull on disk. Standard library only; blocks, so call it in a thread."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")


def remove_parts(store: Path, digests: Iterable[str]) -> int:
    """Remove `blobs/sha256-<hex>-partial` and `…-partial-<N>` of these layers; finished layers stay.

    :param store: the folder that OLLAMA_MODELS names
    :returns: bytes freed on disk; part files are sparse, so this counts blocks and not lengths
    """
    freed_bytes = 0
    for digest in digests:
        if not DIGEST.fullmatch(digest):
            continue  # what a registry calls a digest becomes a path here
        for part in (store / "blobs").glob(f"{digest.replace(':', '-')}-partial*"):
            try:
                held_bytes = part.stat().st_blocks * 512
                part.unlink()
            except FileNotFoundError:  # Ollama was quicker
                continue
            freed_bytes += held_bytes
    return freed_bytes
