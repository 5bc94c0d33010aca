"""The disk that holds the models: Ollama's log is silent when a download or a copy ends on a full one."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

FULL_BELOW_BYTES: Final = (
    64 * 1024 * 1024
)  # less than one part of a download, which has 100 MB (facts/ollama.md §3.7)
MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class StoreDisk:
    """What the disk of the model store has left for this user, in bytes, and when that was seen."""

    folder: str
    free_bytes: int
    seen_mono: float
    seen_at: float

    @property
    def trouble(self) -> str | None:
        """Why no model can be stored, as one sentence; None while there is room."""
        if self.free_bytes >= FULL_BELOW_BYTES:
            return None
        return (
            f"The disk of the model store {self.folder} is full ({self.free_bytes // MIB} MiB left): "
            "no model can be pulled. Free space there."
        )


def read_store_disk(folder: Path, *, mono: float, at: float) -> StoreDisk | None:
    """The disk of this folder, or of the nearest one above that is there already. Blocks while the disk does.

    Root may use what is reserved for it. None where the file system has no figures.
    """
    for place in (folder, *folder.parents):
        try:
            seen = os.statvfs(place)
        except FileNotFoundError:
            continue
        except OSError:  # gone, or not ours to see
            return None
        if seen.f_flag & os.ST_RDONLY:  # meant so: nothing is to be stored there
            return None
        n_free = seen.f_bavail if os.geteuid() else seen.f_bfree
        return StoreDisk(str(folder), n_free * seen.f_frsize, mono, at) if seen.f_blocks else None
    return None
