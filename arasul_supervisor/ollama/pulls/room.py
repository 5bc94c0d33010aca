"""Whether the disk has room for a pull: pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from arasul_supervisor.errors import DiskFull

if TYPE_CHECKING:
    from collections.abc import Iterable

    from arasul_supervisor.model_store.parts import LayerOnDisk

# For manifests, part notes and whoever else writes there; below this /health calls the disk full (model_store/disk).
MARGIN_BYTES: Final = 64 * 1024 * 1024
LOOK_EVERY_S: Final = 5.0
LOOK_AT_LEAST_EVERY_S: Final = 60.0

_UNITS: Final = ((10**9, "GB"), (10**6, "MB"), (10**3, "kB"))


def missing_bytes(on_disk: Iterable[LayerOnDisk]) -> int:
    """What these layers will still take on the disk."""
    return sum(layer.missing_bytes for layer in on_disk)


def has_room(*, missing: int, elsewhere: int, free: int) -> bool:
    """True when the disk has room for a pull beside those under way, see `disk_full`."""
    return free >= missing + elsewhere + MARGIN_BYTES


def may_have_room(*, missing: int | None, elsewhere: int, free: int, free_when_full: int | None) -> bool:
    """True when a pull that found no room may try again: by its figures, or as there is clearly more than then."""
    if missing is not None:
        return has_room(missing=missing, elsewhere=elsewhere, free=free)
    return free >= (free_when_full or 0) + MARGIN_BYTES


def disk_full(
    model: str, *, said: str, missing: int | None, elsewhere: int, free: int | None, folder: str
) -> DiskFull:
    """The error of a pull that has no room.

    :param said: what failed, as a sentence
    :param missing: bytes that it still needs; None when that is not known
    :param elsewhere: bytes that other pulls under way still need
    :param free: bytes on the disk; None when that is not known
    """
    needs = (
        f"'{model}' still needs {_exactly(missing)}" if missing is not None else f"'{model}' needs more room"
    )
    beside = f", other pulls {_exactly(elsewhere)}" if elsewhere else ""
    there = f"; {_exactly(free)} are free at {folder}" if free is not None else f" at {folder}"
    return DiskFull(
        f"{said} {needs}{beside}, and {_rounded(MARGIN_BYTES)} stay spare{there}.",
        hint="Free space there (DELETE /api/models/delete removes a model): the pull then goes on by itself.",
        fields={"needed_bytes": missing, "free_bytes": free},
    )


def wait_before_look(n_parked: int) -> float:
    """Seconds until a parked pull looks for room again.

    Longer for one that was parked often: it may have met a quota, which no look at the disk shows.
    """
    return float(min(LOOK_AT_LEAST_EVERY_S, LOOK_EVERY_S * 2 ** max(0, n_parked - 1)))


def _exactly(size_bytes: int) -> str:
    return f"{_rounded(size_bytes)} ({size_bytes} bytes)"


def _rounded(size_bytes: int) -> str:
    for unit_bytes, unit in _UNITS:
        if size_bytes >= unit_bytes:
            return f"{size_bytes / unit_bytes:.3g} {unit}"
    return f"{size_bytes} bytes"
