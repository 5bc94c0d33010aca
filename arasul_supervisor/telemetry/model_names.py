"""The names that installed models have, by the blob that a runner maps: from the manifests of the store.

The engine is not asked: a sick one does not answer, and its list of loaded models knows no pid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from arasul_supervisor.model_store.listing import read_weights_of, walk_manifests

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

NAMES_KEPT_S: Final = 300.0  # a copy under another name shows after that time


@dataclass(frozen=True, slots=True)
class ModelNames:
    """All names of each blob, sorted, as one look at the store found them; `asked` are the blobs it was made for."""

    by_blob: Mapping[str, tuple[str, ...]]
    asked: frozenset[str]
    read_mono: float


def are_names_due(known: ModelNames | None, blobs: Collection[str], *, now_mono: float) -> bool:
    """True when a blob is loaded that no look at the store was made for, or the last look is old. Pure."""
    if not blobs:
        return False
    if known is None or now_mono - known.read_mono >= NAMES_KEPT_S:
        return True
    return any(blob not in known.by_blob and blob not in known.asked for blob in blobs)


def read_model_names(store: Path, blobs: Collection[str], *, mono: float) -> ModelNames:
    """One look at all manifests. What is broken or not ours to read is left out. Blocks while the store does."""
    names: dict[str, set[str]] = {}
    for file in walk_manifests(store).files:
        for blob in read_weights_of(file.path) or ():
            names.setdefault(blob, set()).add(file.name)
    by_blob = {blob: tuple(sorted(found)) for blob, found in names.items()}
    return ModelNames(by_blob, frozenset(blobs), mono)
