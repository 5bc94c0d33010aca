"""How much memory each GPU has, before the engine's first start: OLLAMA_GPU_MEMORY_FRACTION is a share of it.

Standard library only, synchronous, bounded: it stands before the first spawn. A box without a GPU pays one look at the
disk; one with a GPU of NVIDIA's reads what an earlier life noted, for initialising an idle card can take seconds.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from arasul_supervisor.telemetry.files import names_in, read_text
from arasul_supervisor.telemetry.gpu.launch import look_for_driver
from arasul_supervisor.telemetry.gpu.tegra_node import find_node

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from arasul_supervisor.telemetry.gpu.gpu_settings import GpuSettings
    from arasul_supervisor.telemetry.gpu.readings import GpuReading

_PROC_GPUS: Final = "proc/driver/nvidia/gpus"
# Lines as they were published: `Model: 		 NVIDIA GeForce RTX 3090`, `GPU UUID: 	 GPU-1c6f…`; before the card is
# initialised the UUID consists of question marks.
_FACT: Final = re.compile(r"^(Model|GPU UUID):(.*)$", re.MULTILINE)
_CAPABILITIES: Final = "proc/driver/nvidia/capabilities"
_NOTE: Final = "gpu-memory.json"
_FORMAT: Final = 2


@dataclass(frozen=True, slots=True)
class GpuMemory:
    """Memory of one GPU. Where it is the host's, available is MemAvailable."""

    total_bytes: int
    available_bytes: int


@dataclass(frozen=True, slots=True)
class LaunchMemory:
    """What is known at the launch; `trouble` says in a sentence why nothing is, on a box that has a GPU."""

    gpus: tuple[GpuMemory, ...] = ()
    trouble: str = ""


def memory_at_launch(
    settings: GpuSettings,
    state_dir: Path,
    *,
    timeout_s: float = 2.0,
    environ: Mapping[str, str] | None = None,
    gives_up: Callable[[], bool] = lambda: False,
) -> LaunchMemory:
    """Memory of each GPU in the driver's order; empty at once where there is no sign of one. From the main thread.

    A note of an earlier life tells only the totals, for what is free is another matter each day: then all of it counts
    as free, so that a start leaves the engine less rather than more than its share.

    :param environ: the environment of the child that asks; ours when None
    :param gives_up: asked ten times a second whether the launch is still wanted
    """
    root = settings.sysroot
    if settings.gpu == "none":
        return LaunchMemory()
    if settings.gpu != "nvml" and find_node(root) is not None:
        return LaunchMemory(_host_memory(root))
    if settings.gpu == "tegra" or (settings.gpu == "auto" and not look_for_driver(root).is_there):
        return LaunchMemory()
    identity = cards_by_driver(root)
    noted = _read_note(state_dir, identity)
    if noted:
        return LaunchMemory(noted)
    from arasul_supervisor.telemetry.gpu.nvml_memory import (
        ask_memory,
    )  # its import would stand before every spawn

    told = ask_memory(root, timeout_s=timeout_s, environ=environ, gives_up=gives_up)
    write_note(state_dir, identity, told.gpus)
    return told


def memory_of(readings: Sequence[GpuReading], root: Path) -> tuple[GpuMemory, ...]:
    """Memory of each GPU whose memory is known. Of a card in MIG mode a program sees one instance, hence one figure."""
    instances = [part for reading in readings if reading.mig for part in reading.mig.instances]
    sizes = [
        GpuMemory(part.memory_total_bytes, part.memory_total_bytes - part.memory_used_bytes)
        for part in instances
        if part.memory_total_bytes is not None and part.memory_used_bytes is not None
    ]
    if sizes:
        return (min(sizes, key=lambda size: size.total_bytes),)
    found: list[GpuMemory] = []
    for reading in readings:
        if reading.is_unified:
            found += _host_memory(root)
        elif reading.memory_total_bytes is not None and reading.memory_free_bytes is not None:
            found.append(GpuMemory(reading.memory_total_bytes, reading.memory_free_bytes))
    return tuple(found)


def cards_by_driver(root: Path) -> tuple[str, ...]:
    """What the kernel module says of itself and of its cards, without waking one: version, then place, model, UUID.

    Empty where it cannot be told; a fact that it does not know yet is an empty text.
    """
    version = read_text(root / "sys/module/nvidia/version")
    places = names_in(root / _PROC_GPUS)
    if not version or not places:
        return ()
    told = [version]
    for place in places:
        told_of_card = read_text(root / _PROC_GPUS / place / "information") or ""
        facts = {name: fact.strip() for name, fact in _FACT.findall(told_of_card)}
        model, uuid = facts.get("Model", ""), facts.get("GPU UUID", "")
        told += [place, "" if model == "Unknown" else model, "" if "?" in uuid else uuid]
    return (*told, *_slices(root))


def _slices(root: Path) -> tuple[str, ...]:
    """The slices of cards in MIG mode, `gpu0/gi3`: cut anew, a card has other memory for a program."""
    folder = root / _CAPABILITIES
    found = ((card, part) for card in names_in(folder) for part in names_in(folder / card / "mig"))
    return tuple(f"{card}/{part}" for card, part in found if part.startswith("gi"))


def write_note(state_dir: Path, identity: tuple[str, ...], gpus: Sequence[GpuMemory]) -> None:
    """Note the memory for the next launch on the same cards. A state folder that cannot be written costs only that."""
    if not identity or not gpus:
        return
    content = json.dumps(
        {"format": _FORMAT, "identity": list(identity), "totals": [gpu.total_bytes for gpu in gpus]}
    )
    draft = state_dir / f"{_NOTE}.draft"
    try:
        draft.write_text(content, encoding="utf-8")
        draft.replace(state_dir / _NOTE)
    except OSError:
        return


def _read_note(state_dir: Path, identity: tuple[str, ...]) -> tuple[GpuMemory, ...]:
    """What was noted of these very cards; empty when the driver, a card or its place is another one."""
    if not identity:
        return ()
    try:
        note = json.loads((state_dir / _NOTE).read_bytes())
        noted = note["identity"]
        gpus = tuple(GpuMemory(int(total), int(total)) for total in note["totals"])
        is_same = note["format"] == _FORMAT and len(noted) == len(identity)
    except (OSError, ValueError, KeyError, TypeError):
        return ()
    return (
        gpus if is_same and all(now in ("", then) for now, then in zip(identity, noted, strict=True)) else ()
    )


def _host_memory(root: Path) -> tuple[GpuMemory, ...]:
    from arasul_supervisor.telemetry.host import read_memory  # only where a GPU shares it

    host = read_memory(root)
    return () if host is None else (GpuMemory(host.total_bytes, host.available_bytes),)
