"""The sentences about a GPU that is not well: what is seen, and what to do. Pure, but for one look at /proc."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from arasul_supervisor.telemetry.files import read_text
from arasul_supervisor.telemetry.gpu.nvml_codes import GRAVE_XIDS

if TYPE_CHECKING:
    from collections.abc import Mapping

_REMEDY: Final[Mapping[str, str]] = {
    "none": "libnvidia-ml.so.1 or the Python package nvidia-ml-py is not installed.",
    "no_driver": "No NVIDIA kernel driver is loaded.",
    "lost": "It fell off the bus (see Xid 79 in the kernel log); only a reset of the card or a reboot brings it back.",
    "reset_required": "It needs a reset (nvidia-smi --gpu-reset, with no user of the card left) or a reboot.",
    "no_access": (
        "The device is out of reach, as for a container that lost its device rules: recreate the container; a "
        "restart inside does not help."
    ),
    "driver_mismatch": (
        "The driver package was upgraded under the running kernel. What runs on the GPU goes on, anything new fails: "
        "do not restart Ollama, reboot."
    ),
}


def refusal_sentence(
    state: str, code: int, *, was_open: bool, library: str | None, module: str | None
) -> str:
    """Why the library does not work at all, or no more."""
    versions = ""
    if state == "driver_mismatch" and (library or module):
        versions = f" Kernel module {module or 'unknown'}, library {library or 'unknown'}."
    seen = "NVML answers no more" if was_open else "NVML refuses to start"
    return f"{seen} (code {code}). {_REMEDY.get(state, '')}{versions}"


def state_sentence(index: int, name: str | None, state: str, *, is_unlisted: bool = False) -> str:
    """How one GPU is, with what to do where it is not well."""
    what = f"GPU {index} ({name or 'unknown model'})"
    if is_unlisted:
        return (
            f"{what} is not listed by its driver any more: it is being reset, was given away, or fell off the bus (see "
            "NVRM in the kernel log). Restarting Ollama does not bring it back."
        )
    if state == "gated":
        return f"{what} sleeps without power, as an idle one does."
    if state == "ok":
        return f"{what} answers."
    return f"{what} is in state {state}. {_REMEDY.get(state, '')}".rstrip()


def stale_sentence(index: int, age_s: float | None) -> str:
    """What is known of one GPU is old."""
    return f"The last figures of GPU {index} are {age_s or 0:.0f} s old."


def xid_sentence(index: int, xid: int) -> str:
    """What the driver reported, where it is one of the grave ones."""
    return f"The driver reported Xid {xid} of GPU {index}: {GRAVE_XIDS[xid]}."


def silent_sentence(seen: str, pid: int, *, asked: str) -> str:
    """A call that hangs, with the process's state where it says more."""
    where = " It is in uninterruptible sleep (state D), inside the kernel." if _sleeps_in_kernel(pid) else ""
    return f"{seen}{where} {asked} hangs; it is tried again, and a reboot helps if that lasts."


def unkillable_sentence(pid: int, *, asked: str) -> str:
    """A child that SIGKILL does not end."""
    return (
        f"{asked} hangs and its child {pid} outlives SIGKILL; no other is started until it is gone. "
        "A reboot helps; a container cannot end before the kernel lets go of it."
    )


def _sleeps_in_kernel(pid: int) -> bool:
    return (read_text(Path(f"/proc/{pid}/stat")) or "").rpartition(")")[2].split()[:1] == ["D"]
