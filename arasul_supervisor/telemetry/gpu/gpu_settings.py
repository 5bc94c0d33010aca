"""The part of the settings that telemetry reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path


class GpuSettings(Protocol):
    """What telemetry needs to know of the settings."""

    @property
    def gpu(self) -> str:
        """`auto`, `nvml`, `tegra` or `none`."""

    @property
    def jtop(self) -> bool:
        """Whether jetson-stats is asked, too."""

    @property
    def sysroot(self) -> Path:
        """What stands for `/`."""
