"""Builds the stand-in for NVIDIA's library and the environment in which a child finds it."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping

SOURCE: Final = Path(__file__).with_name("nvml_stub.c")


@dataclass(frozen=True, slots=True)
class NvmlStub:
    """A compiled library in a folder of its own, and the file it answers from."""

    folder: Path
    answers: Path

    @property
    def library(self) -> Path:
        """What the bindings open."""
        return self.folder / "libnvidia-ml.so.1"

    @property
    def environ(self) -> Mapping[str, str]:
        """Ours, with the library on its path."""
        return {**os.environ, "LD_LIBRARY_PATH": str(self.folder), "NVML_STUB_FILE": str(self.answers)}

    def answer(self, text: str) -> None:
        """Answer so from the next call on; whoever reads at this instant sees the old text or the new one."""
        draft = self.answers.with_suffix(".draft")
        draft.write_text(text)
        draft.replace(self.answers)


def build_nvml_stub(folder: Path, *defines: str) -> NvmlStub:
    """Compile it below `folder`; without gcc the test is skipped, and says so."""
    if shutil.which("gcc") is None:
        pytest.skip("NOT TESTED: the NVML child, for there is no gcc to build the stub library")
    stub = NvmlStub(folder / "nvml", folder / "nvml.txt")
    stub.folder.mkdir(parents=True)
    options = [f"-D{define}" for define in defines]
    command = ["gcc", "-std=gnu11", "-O1", "-Wall", "-Werror", "-shared", "-fPIC", *options]
    subprocess.run([*command, "-o", str(stub.library), str(SOURCE)], check=True, timeout=60)
    return stub
