"""What we may remove from the store, and only that: leftovers that no model names. Blocks: call it in a thread."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from arasul_supervisor.model_store.listing import read_manifest, read_store
from arasul_supervisor.model_store.manifests import DIGEST, parse_manifest
from arasul_supervisor.model_store.parts import BLOCK_BYTES, blob_file, part_files, remove_parts

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

_DIGEST_IN_TEXT: Final = re.compile(DIGEST.pattern.encode())


@dataclass(frozen=True, slots=True)
class Purged:
    """Bytes on disk, in blocks: what was freed, and what still lies there of these layers, whoever has it."""

    freed_bytes: int
    kept_bytes: int


def purge(
    store: Path, digests: Iterable[str], *, wanted: Collection[str], open_files: Collection[str]
) -> Purged:
    """Remove what is unfinished of these layers, and their finished blobs that no model names.

    Finished blobs stay, as they do in Ollama's own prune, while a manifest cannot be read: it may name them. They
    stay, too, while the engine has any file of the store open: somebody's pull, which counts on blobs that it found
    there and writes its manifest at its end, has its parts open, or the blob whose digest it computes.

    :param store: the folder that OLLAMA_MODELS names
    :param wanted: digests that an active job needs
    :param open_files: absolute paths that a process has open, as `supervision/open_files.py` gives them
    :raises OSError: the store cannot be read, or the file system refuses
    """
    layers = [digest for digest in dict.fromkeys(digests) if DIGEST.fullmatch(digest)]
    idle = [
        digest
        for digest in layers
        if digest not in wanted and not _is_any_open(part_files(store, digest), open_files)
    ]
    freed_bytes = remove_parts(store, idle)
    if not open_files:
        freed_bytes += _remove_unnamed(store, idle, open_files)
    return Purged(freed_bytes, held_bytes(store, layers))


def held_bytes(store: Path, digests: Iterable[str]) -> int:
    """Bytes on disk, in blocks, of these layers: their finished blobs, their parts and the notes of these."""
    return sum(
        _held_bytes(file)
        for digest in dict.fromkeys(digests)
        if DIGEST.fullmatch(digest)
        for file in (*part_files(store, digest), blob_file(store, digest))
    )


def bytes_gone(store: Path, blobs: Mapping[str, int]) -> int:
    """The bytes of those blobs, by digest, that are no longer there."""
    return sum(n_bytes for digest, n_bytes in blobs.items() if not blob_file(store, digest).exists())


def remove_corrupt_manifest(manifest_file: Path) -> frozenset[str] | None:
    """Remove a manifest that is none: Ollama answers its delete with 500 for ever (facts/ollama.md §7 row 19).

    :returns: digests of the layers, as far as it still names them; None when it is a manifest by now, and stays
    :raises OSError: it cannot be read or removed
    """
    content = read_manifest(manifest_file)
    try:
        parse_manifest(content)
    except ValueError:
        manifest_file.unlink()
        return frozenset(digest.decode() for digest in _DIGEST_IN_TEXT.findall(content))
    return None


def _remove_unnamed(store: Path, digests: Collection[str], open_files: Collection[str]) -> int:
    listing = read_store(store)
    if not listing.is_whole:
        return 0
    named = {layer.digest for model in listing.models for layer in model.manifest.layers}
    freed_bytes = 0
    for digest in digests:
        blob = blob_file(store, digest)
        if digest in named or str(blob) in open_files:
            continue
        for file in (blob, _metadata_file(store, digest)):
            freed_bytes += _held_bytes(file)
            file.unlink(missing_ok=True)
    return freed_bytes


def _is_any_open(files: Iterable[Path], open_files: Collection[str]) -> bool:
    return any(str(file) in open_files for file in files)


def _metadata_file(store: Path, digest: str) -> Path:
    """What ≥ 0.34 noted of a GGUF, and trusts when the blob comes back (facts/ollama.md §8)."""
    return store / "metadata" / f"{digest.replace(':', '-')}.json"


def _held_bytes(file: Path) -> int:
    try:
        return file.stat().st_blocks * BLOCK_BYTES
    except FileNotFoundError:
        return 0
