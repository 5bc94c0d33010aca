"""What lies on disk of a layer: the finished blob, or the parts of an unfinished one. Blocks: call it in a thread.

`blobs/sha256-<hex>` is a finished layer, `…-partial` an unfinished one (sparse, full length from the start), and
`…-partial-<N>` the note of each part: `{"N":0,"Offset":0,"Size":100000000,"Completed":22020096}`. A note is written
when its part ends or the pull is left, not during the download (facts/ollama.md §8).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from arasul_supervisor.model_store.manifests import DIGEST, Layer

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

BLOCK_BYTES: Final = 512  # the unit of st_blocks, whatever the file system's own


@dataclass(frozen=True, slots=True)
class LayerOnDisk:
    """A layer and what is there of it.

    `done_bytes`: what no later pull fetches again, by the notes of its parts; a SIGKILL forgets the parts in
    flight. `held_bytes`: what it takes on disk.
    """

    layer: Layer
    done_bytes: int
    held_bytes: int
    is_finished: bool

    @property
    def missing_bytes(self) -> int:
        """Bytes that the disk must still have room for."""
        return 0 if self.is_finished else max(0, self.layer.size_bytes - self.held_bytes)


def layers_on_disk(store: Path, layers: Iterable[Layer]) -> tuple[LayerOnDisk, ...]:
    """What is there of each layer."""
    return tuple(_on_disk(store, layer) for layer in layers)


def blob_file(store: Path, digest: str) -> Path:
    """Where a blob lies.

    :raises ValueError: what a registry calls a digest becomes a path here
    """
    if not DIGEST.fullmatch(digest):
        raise ValueError(f"{digest[:80]!r} is no digest")
    return store / "blobs" / digest.replace(":", "-")


def part_files(store: Path, digest: str) -> list[Path]:
    """The unfinished file of a layer and the notes of its parts; none where there are none."""
    blob = blob_file(store, digest)
    return sorted(blob.parent.glob(f"{blob.name}-partial*"))


def remove_parts(store: Path, digests: Iterable[str]) -> int:
    """Remove what is unfinished of these layers; finished ones stay.

    :param store: the folder that OLLAMA_MODELS names
    :returns: bytes freed on disk; part files are sparse, so this counts blocks and not lengths
    """
    freed_bytes = 0
    for digest in digests:
        if not DIGEST.fullmatch(digest):
            continue
        for part in part_files(store, digest):
            try:
                held_bytes = part.stat().st_blocks * BLOCK_BYTES
                part.unlink()
            except FileNotFoundError:  # Ollama was quicker
                continue
            freed_bytes += held_bytes
    return freed_bytes


def _on_disk(store: Path, layer: Layer) -> LayerOnDisk:
    blob = blob_file(store, layer.digest)
    try:
        found = blob.stat()
    except OSError:
        return _unfinished(store, layer)
    return LayerOnDisk(layer, layer.size_bytes, found.st_blocks * BLOCK_BYTES, is_finished=True)


def _unfinished(store: Path, layer: Layer) -> LayerOnDisk:
    done_bytes = held_bytes = 0
    for file in part_files(store, layer.digest):
        try:
            if file.name.endswith("-partial"):
                held_bytes += file.stat().st_blocks * BLOCK_BYTES
            else:
                done_bytes += _completed_bytes(file.read_bytes())
        except OSError:  # Ollama was quicker
            continue
    return LayerOnDisk(layer, min(done_bytes, layer.size_bytes), held_bytes, is_finished=False)


def _completed_bytes(note: bytes) -> int:
    """What the note of a part says; 0 for one that says nothing."""
    try:
        value = json.loads(note)
    except ValueError:
        return 0
    completed = value.get("Completed") if isinstance(value, dict) else None
    return completed if isinstance(completed, int) and completed > 0 else 0
