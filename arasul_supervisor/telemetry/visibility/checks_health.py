"""Is the GPU well, by its library, by the kernel's log, and by the daemon; and is there memory for it? Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from arasul_supervisor.telemetry.gpu import nvml_verdict as nvml
from arasul_supervisor.telemetry.gpu.nvml_codes import (
    GRAVE_XIDS,
    LIBRARY_NOT_FOUND,
    NO_PERMISSION,
    STATE_OF_CODE,
)
from arasul_supervisor.telemetry.visibility.checks_driver import NO_GPU
from arasul_supervisor.telemetry.visibility.finding import FAIL, OK, SKIP, WARN, Finding

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from arasul_supervisor.telemetry.gpu.nvml_verdict import NvmlVerdict
    from arasul_supervisor.telemetry.gpu.readings import GpuReading
    from arasul_supervisor.telemetry.visibility.facts import Driver
    from arasul_supervisor.telemetry.visibility.kernel_log import KernelLog, Xid

KERNEL_LOG: Final = "kernel log"
MEMORY: Final = "memory"
NVML: Final = "nvml"
DAEMON: Final = "daemon"
JTOP: Final = "jtop"
_STATES: Final[Mapping[str, tuple[str, str]]] = {  # of facts/gpu.md §3.4: in words, and what brings it back
    "none": ("libnvidia-ml.so.1 cannot be loaded", "See the line `library`."),
    "no_driver": ("no kernel driver is loaded", "See the line `driver`."),
    "lost": (
        "it has fallen off the bus",
        "Only a reset of the card or a reboot brings it back; restarting Ollama does not.",
    ),
    "reset_required": (
        "it needs a reset",
        "nvidia-smi --gpu-reset, with nobody using the card, or a reboot; restarting Ollama does not help.",
    ),
    "no_access": (
        "it is out of reach, as for a container that lost its device rules",
        "Create the container anew; a restart inside it does not help. On a host: look at the line `nodes`.",
    ),
    "driver_mismatch": (
        "the driver was upgraded under the running kernel",
        "What runs on the GPU goes on, anything new fails: do not restart Ollama, reboot.",
    ),
}
_WELL: Final = ("ok", "gated")
_FAR_BELOW: Final = 0.5  # of the board's memory: then a limit decides what fits, not the board
_GIB: Final = 2**30
_RESET: Final = "Reset the card (nvidia-smi --gpu-reset, with nobody using it) or reboot"
_XIDS: Final[Mapping[int, tuple[str, str]]] = {  # NVIDIA's Xid catalogue: what it means, what to do
    13: (
        "a fault in a program on the GPU",
        "The runner ended and a new one starts clean; if it comes again with other models too, suspect the memory of "
        "the card.",
    ),
    31: (
        "a program touched GPU memory that is not its own",
        "As a rule a fault of the program or the driver: upgrade both.",
    ),
    43: ("a program on the GPU was stopped", "The cause stands in the lines before it; the card is fine."),
    45: ("what a program had on the GPU was cleared away", "The cause stands in the lines before it."),
    48: ("a memory error that cannot be corrected", f"{_RESET}; if it comes again, replace the card."),
    79: (
        "the card has fallen off the bus",
        "Power the machine off and on; check the seat, the power supply and the temperature of the card.",
    ),
    95: ("a memory error that was not contained", f"{_RESET}; if it comes again, replace the card."),
    119: ("the firmware of the card (GSP) does not answer", f"{_RESET}; then upgrade the driver."),
    120: ("an error in the firmware of the card (GSP)", f"{_RESET}; then upgrade the driver."),
}
_CATALOGUE: Final = "https://docs.nvidia.com/deploy/xid-errors/ says what it means."


def check_nvml(verdict: NvmlVerdict | None, driver: Driver, *, timeout_s: float) -> tuple[Finding, ...]:
    """What the library says; None: it was not worth asking."""
    if verdict is None:
        seen = "No library of NVIDIA's is here to be asked." if driver.has_gpu else NO_GPU
        return (Finding(SKIP, NVML, seen),)
    if verdict.outcome == nvml.NOT_ASKED or not verdict.has_bindings:
        return (
            Finding(
                SKIP,
                NVML,
                "The library was not asked: the Python package nvidia-ml-py is not installed here.",
            ),
        )
    if verdict.outcome == nvml.SILENT:
        seen = f"NVIDIA's library gave no answer within {timeout_s:g} s: the driver hangs."
        return (
            Finding(
                FAIL, NVML, seen, "Restarting Ollama does not help; look for NVRM in `sudo dmesg` and reboot."
            ),
        )
    if verdict.outcome == nvml.DIED:
        seen = "A process that asked NVIDIA's library died of it."
        return (Finding(FAIL, NVML, seen, "Install the driver anew, both halves of one version."),)
    if verdict.outcome == nvml.REFUSED:
        return (_refusal(verdict, driver),)
    if not verdict.readings:
        return (_no_gpu(driver),)
    own = own_cards(verdict.readings)
    return tuple(_device(one) if one in own else _foreign(one) for one in verdict.readings)


def own_cards(readings: Sequence[GpuReading]) -> tuple[GpuReading, ...]:
    """Those of this container: the driver may list the host's other cards too, and refuses their very handle (4).

    Where no card is well, one that is refused may as well be ours.
    """
    if not any(one.state in _WELL for one in readings):
        return tuple(readings)
    return tuple(
        one
        for one in readings
        if not (one.state == "no_access" and one.refusals == {"handle": NO_PERMISSION})
    )


def check_kernel_log(log: KernelLog, driver: Driver, *, is_well: bool | None) -> tuple[Finding, ...]:
    """The driver's reports that are still in the log, newest of each number.

    :param is_well: whether the library says that all GPUs are well now; None: it does not say
    """
    if log.problem:
        return (
            Finding(
                SKIP, KERNEL_LOG, f"It cannot be read here ({log.problem}); `sudo dmesg | grep Xid` shows it."
            ),
        )
    if not log.xids:
        if not driver.has_gpu:
            return (Finding(SKIP, KERNEL_LOG, NO_GPU),)
        seen = "No error of the driver (Xid) is in what the kernel's log still holds."
        return (Finding(OK, KERNEL_LOG, seen),)
    newest = {xid.number: xid for xid in log.xids}
    return tuple(
        _xid(newest[number], sum(xid.number == number for xid in log.xids), is_well=is_well)
        for number in sorted(newest)
    )


def check_memory(
    *, total_bytes: float | None, limit_bytes: float | None, current_bytes: float | None, is_unified: bool
) -> Finding:
    """On unified memory the group's limit is what Ollama plans with: free = limit − current, page cache and all."""
    if not is_unified:
        return Finding(SKIP, MEMORY, "No GPU here shares the host's memory.")
    if total_bytes is None:
        return Finding(SKIP, MEMORY, "/proc/meminfo does not say how much memory there is.")
    if limit_bytes is None or limit_bytes >= _FAR_BELOW * total_bytes:
        limit = "no limit" if limit_bytes is None else f"a limit of {limit_bytes / _GIB:.1f} GiB"
        return Finding(
            OK, MEMORY, f"{total_bytes / _GIB:.1f} GiB, shared with the GPU; {limit} on this group."
        )
    used = "" if current_bytes is None else f", {current_bytes / _GIB:.1f} GiB of it in use"
    return Finding(
        WARN,
        MEMORY,
        f"This group may use {limit_bytes / _GIB:.1f} GiB of the board's {total_bytes / _GIB:.1f} GiB{used}: Ollama "
        "plans with the rest, and file cache counts as used.",
        "Raise the limit of the container or service (mem_limit, MemoryMax) to what the models need; it does not "
        "protect the board, for GPU buffers are counted in no group.",
    )


def check_daemon(health: Mapping[str, object], sources: tuple[Mapping[str, object], ...]) -> Finding:
    """The daemon's own word: its health point, and a source of figures that is not well (jtop: `check_jtop`)."""
    checks = health.get("checks")
    point = checks.get("gpu") if isinstance(checks, dict) else None
    if not isinstance(point, dict):
        return Finding(SKIP, DAEMON, "The daemon says nothing of the GPU.")
    status = {"ok": OK, "warn": WARN, "fail": FAIL, "unknown": WARN}.get(str(point.get("status")), SKIP)
    details = [str(point.get("detail") or "It gives no detail.")]
    details += [
        str(one.get("detail"))
        for one in sources
        if one.get("state") not in ("ok", "gated", "none", None) and one.get("source") != JTOP
    ]
    return Finding(
        status, DAEMON, f"Its health point gpu is {point.get('status')}: {' '.join(dict.fromkeys(details))}"
    )


def check_jtop(sentence: str) -> Finding:
    """jetson-stats was asked for and gives nothing: why, by the source's own sentence."""
    return Finding(
        WARN,
        JTOP,
        sentence,
        "Start its service (sudo systemctl start jtop), or unset ARASUL_JTOP: the other figures need neither.",
    )


def _foreign(reading: GpuReading) -> Finding:
    seen = (
        f"GPU {reading.index} is listed and may not be opened: it is another's, not given to this container."
    )
    return Finding(SKIP, NVML, seen)


def _device(reading: GpuReading) -> Finding:
    what = f"GPU {reading.index} ({reading.name or 'unknown model'})"
    if reading.state in _WELL:
        return Finding(OK, NVML, f"{what} answers.")
    words, advice = _STATES.get(
        reading.state, (f"it is in state {reading.state}", "Look for NVRM in `sudo dmesg`.")
    )
    return Finding(FAIL, NVML, f"{what}: {words}.", advice)


def _refusal(verdict: NvmlVerdict, driver: Driver) -> Finding:
    state = "none" if verdict.code == LIBRARY_NOT_FOUND else STATE_OF_CODE.get(verdict.code, "")
    words, advice = _STATES.get(state, ("it does not say why", "Look for NVRM in `sudo dmesg`."))
    versions = ""
    if state == "driver_mismatch" and (verdict.library or driver.module_version):
        versions = (
            f" (kernel module {driver.module_version or 'unknown'}, library {verdict.library or 'unknown'})"
        )
    seen = f"NVIDIA's library refuses to start, code {verdict.code}: {words}{versions}."
    if not driver.has_gpu:
        return Finding(SKIP, NVML, f"{seen} {NO_GPU}")
    if driver.is_nvgpu:  # JetPack 5 has no such library, and that of JetPack 6 tells only a name
        return Finding(SKIP, NVML, f"{seen} A Jetson computes without it.")
    return Finding(FAIL, NVML, seen, advice)


def _no_gpu(driver: Driver) -> Finding:
    """The library knows none: is that so, or does something else know one?"""
    seen = "NVIDIA's library answers and knows no GPU"
    addresses = tuple(card.address for card in driver.cards)
    known = addresses or driver.listed
    if known:
        where = "on the PCI bus" if addresses else "in /proc/driver/nvidia/gpus"
        return Finding(
            FAIL,
            NVML,
            f"{seen}, but {where} there is {', '.join(known)}.",
            "Look for NVRM in `sudo dmesg`, where the driver says why it refused the card; a container must be given "
            "it as well (line `container`).",
        )
    if driver.is_nvgpu:
        return Finding(SKIP, NVML, f"{seen}. A Jetson computes without it.")
    if driver.has_gpu:
        return Finding(
            WARN,
            NVML,
            f"{seen}, though its driver is here: the card is gone, or was never given to this box.",
            "Look for NVRM in `sudo dmesg`; in a container or a virtual machine, give it the card.",
        )
    return Finding(OK, NVML, f"{seen}.")


def _xid(xid: Xid, count: int, *, is_well: bool | None) -> Finding:
    meaning, advice = _XIDS.get(xid.number, ("", _CATALOGUE))
    what = f" ({meaning})" if meaning else ""
    when = "" if xid.age_s is None else f", {'last ' if count > 1 else ''}{_ago(xid.age_s)} ago"
    often = "once" if count == 1 else f"{count} times"
    seen = f"Xid {xid.number}{what} on {xid.address}, {often} in the kernel's log{when}."
    if xid.number in GRAVE_XIDS and is_well is not True:
        return Finding(FAIL, KERNEL_LOG, seen, f"{advice.rstrip('.')}.")
    return Finding(WARN, KERNEL_LOG, seen, f"{advice.rstrip('.')}.")


def _ago(age_s: float) -> str:
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if age_s >= 2 * size:
            return f"{age_s / size:.0f} {unit}"
    return f"{age_s:.0f} s"
