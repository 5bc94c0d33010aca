"""Boxes for the scenarios of the GPU and of memory: a daemon over the fake engine, a card and a meminfo on command."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.engine.board_trees import answers, laid_out
from tests.engine.healing_ground import SHORT
from tests.engine.nvml_stub import NvmlStub, build_nvml_stub

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CARD: Final = "x86-one-gpu"
PLAIN: Final = "cpu-only"
ON_THE_GPU: Final = (
    "say,text=time=2026-11-29T00:00:00.000Z level=INFO source=types.go:1 "
    'msg="inference compute" id=0 library=CUDA'
)
"""A mode of the fake engine, which else says that it computes on the CPU."""


@dataclass(frozen=True, slots=True)
class GpuBox:
    """A machine with one card whose library the test commands."""

    root: Path
    stub: NvmlStub

    @property
    def env(self) -> dict[str, str | None]:
        """What a daemon finds it by, with short limits."""
        return {
            **SHORT,
            "ARASUL_GPU": "nvml",
            "ARASUL_SYSROOT": str(self.root),
            "LD_LIBRARY_PATH": str(self.stub.folder),
            "NVML_STUB_FILE": str(self.stub.answers),
        }

    def answer(self, fault: str = "") -> None:
        """The library answers so from now on: well, or with a fault."""
        self.stub.answer(answers(CARD, fault=fault) or "")


@contextlib.contextmanager
def gpu_box(folder: Path) -> Iterator[GpuBox]:
    """One card that is well; what is below `folder` is of the test."""
    stub = build_nvml_stub(folder / "library")
    with laid_out(CARD, folder / "root") as root:
        box = GpuBox(root, stub)
        box.answer()
        yield box


@dataclass(frozen=True, slots=True)
class MemoryBox:
    """A machine without a GPU, whose memory the test commands."""

    root: Path

    @property
    def env(self) -> dict[str, str | None]:
        """What a daemon finds it by."""
        return {"ARASUL_SYSROOT": str(self.root)}

    def leave_available(self, n_bytes: int) -> None:
        """So much memory is available from now on."""
        file = self.root / "proc/meminfo"
        text = re.sub(r"(MemAvailable:\s+)\d+", rf"\g<1>{n_bytes >> 10}", file.read_text(encoding="utf-8"))
        draft = file.with_suffix(".draft")
        draft.write_text(text, encoding="utf-8")
        draft.replace(file)


@contextlib.contextmanager
def memory_box(folder: Path) -> Iterator[MemoryBox]:
    """A machine of 16 GB, most of it available."""
    with laid_out(PLAIN, folder / "root") as root:
        yield MemoryBox(root)
