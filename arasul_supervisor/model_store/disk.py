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
    """The disk of the model store, in bytes, and when it was seen. `free_bytes` is what this user may still write."""

    folder: str
    total_bytes: int
    used_bytes: int
    free_bytes: int
    seen_mono: float
    seen_at: float
    is_read_only: bool = False

    @property
    def used_percent(self) -> float | None:
        """As `df` counts: used of used and free, one decimal; what is reserved for root is neither."""
        whole = self.used_bytes + self.free_bytes
        return round(100 * self.used_bytes / whole, 1) if whole > 0 else None

    @property
    def trouble(self) -> str | None:
        """Why no model can be stored, as one sentence; None while there is room, or where none is meant to be."""
        if self.is_read_only or self.free_bytes >= FULL_BELOW_BYTES:
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
        if not seen.f_blocks:
            return None
        return StoreDisk(
            folder=os.fsencode(folder).decode("utf-8", "replace"),
            total_bytes=seen.f_blocks * seen.f_frsize,
            used_bytes=(seen.f_blocks - seen.f_bfree) * seen.f_frsize,
            free_bytes=(seen.f_bavail if os.geteuid() else seen.f_bfree) * seen.f_frsize,
            seen_mono=mono,
            seen_at=at,
            is_read_only=bool(seen.f_flag & os.ST_RDONLY),
        )
    return None


def free_bytes(folder: Path) -> int | None:
    """What this user may still write there; None where the file system has no figures. Blocks while the disk does."""
    disk = read_store_disk(folder, mono=0.0, at=0.0)
    return disk.free_bytes if disk is not None else None
