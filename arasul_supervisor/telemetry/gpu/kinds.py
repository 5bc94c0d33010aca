"""What differs between the sources that a child asks: where their signs lie, and what their lines mean."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from arasul_supervisor.telemetry.gpu.jtop_lines import jtop_readings_of
from arasul_supervisor.telemetry.gpu.launch import Signs, folder_of_module, look_for_driver
from arasul_supervisor.telemetry.gpu.nvml_codes import LIBRARY_NOT_FOUND, STATE_OF_CODE
from arasul_supervisor.telemetry.gpu.nvml_lines import cuda_version_of, readings_of
from arasul_supervisor.telemetry.gpu.tegra_lines import board_line, tegra_readings_of
from arasul_supervisor.telemetry.gpu.tegra_node import find_node
from arasul_supervisor.telemetry.gpu.words import refusal_sentence

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from arasul_supervisor.telemetry.board import BoardFigures
    from arasul_supervisor.telemetry.gpu.readings import GpuReading

JTOP_SOCKET: Final = "run/jtop.sock"

Line = dict[str, Any]  # Any: JSON written by our own child


@dataclass(frozen=True, slots=True)
class Sample:
    """What one line told."""

    readings: tuple[GpuReading, ...]
    board: BoardFigures | None = None
    cuda_version: str | None = None
    emc_percent: float | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """The source says that it cannot work: the state it is in, why, and whether that lasts."""

    state: str
    sentence: str
    is_lasting: bool


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of source.

    `look` and `arguments` read the disk and run in a thread, told the root; `refusal` is told the line with the code,
    the hello, and the version of the kernel's side, and gives None for what proves nothing.
    """

    name: str
    asked: str  # what hangs when the child does
    absent: str
    look: Callable[[Path], Signs]
    arguments: Callable[[Path], tuple[str, ...]]
    take: Callable[[Line], Sample]
    refusal: Callable[[Line, Mapping[str, Any], str | None], Refusal | None]


def nvml_kind(*, looks_anyway: str = "") -> Kind:
    """NVIDIA's library.

    :param looks_anyway: why a child is started without a sign of a driver; empty: it is not
    """

    def look(root: Path) -> Signs:
        seen = look_for_driver(root)
        return Signs(is_there=seen.is_there or bool(looks_anyway), version=seen.version)

    return Kind(
        name="nvml",
        asked="The NVIDIA driver",
        absent="There is no sign of an NVIDIA driver on this box.",
        look=look,
        arguments=lambda _root: (folder_of_module("pynvml"),),
        take=lambda line: Sample(readings_of(line), cuda_version=cuda_version_of(line)),
        refusal=_nvml_refusal,
    )


def tegra_kind() -> Kind:
    """The files of a Jetson."""
    return Kind(
        name="tegra",
        asked="The firmware of this board",
        absent="There is no GPU of a Jetson on this box.",
        look=lambda root: Signs(is_there=find_node(root) is not None, version=None),
        arguments=lambda root: (str(root),),
        take=lambda line: Sample(tegra_readings_of(line), board=board_line(line)),
        refusal=lambda _line, _hello, _version: None,
    )


def jtop_kind() -> Kind:
    """The service of jetson-stats."""
    return Kind(
        name="jtop",
        asked="The jtop service",
        absent=f"ARASUL_JTOP is on, but there is no /{JTOP_SOCKET}: is the service of jetson-stats running?",
        look=lambda root: Signs(is_there=(root / JTOP_SOCKET).exists(), version=None),
        arguments=lambda root: (_jtop_folder(root), str(root / JTOP_SOCKET)),
        take=lambda line: Sample(jtop_readings_of(line), emc_percent=line["emc_percent"]),
        refusal=_jtop_refusal,
    )


def _jtop_folder(root: Path) -> str:
    """Where jetson-stats lies: beside us, else where its own documentation has it installed, by `sudo pip3`."""
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    system = (root / "usr/local/lib" / version / "dist-packages", root / "usr/lib/python3/dist-packages")
    beside_us = folder_of_module("jtop")
    return beside_us or next((str(folder) for folder in system if (folder / "jtop").is_dir()), "")


def _nvml_refusal(line: Line, hello: Mapping[str, Any], module: str | None) -> Refusal | None:
    code = line["code"]
    state = "none" if code == LIBRARY_NOT_FOUND else STATE_OF_CODE.get(code)
    if state is None:
        return None
    sentence = refusal_sentence(
        state,
        code,
        was_open=line["kind"] != "failed",
        library=hello.get("library"),
        module=module,
    )
    # a driver that is loaded shows among the signs, at once
    is_lasting = state in ("none", "no_driver", "driver_mismatch")
    return Refusal(state, sentence, is_lasting)


def _jtop_refusal(line: Line, _hello: Mapping[str, Any], _version: str | None) -> Refusal | None:
    """What cannot be opened is none; what was open and tells nothing new is a failure that grows old."""
    if line["kind"] != "failed":
        return None
    return Refusal(
        "none", f"jtop gives nothing: {line.get('reason') or 'it does not say why'}", is_lasting=False
    )
