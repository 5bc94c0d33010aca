"""NVIDIA's library as the child sees it: every figure of every card, each in its own try.

The hello is one of

    {"kind":"ready","bindings":"nvidia-ml-py 13.615.71","library":"590.48.01"}
    {"kind":"failed","code":9,"bindings":"nvidia-ml-py 13.615.71","library":"590.48.01"}

and a sample has a value or null for each figure, and the code of each refusal:

    {"kind":"sample","code":0,"driver":"590.48.01","cuda":13010,"gpus":[{"index":0,"state":"ok",
     "figures":{"name":"NVIDIA H100","temperature_c":59,…},"codes":{"utilization_percent":3}}]}
"""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING, Any, Final

from arasul_supervisor.telemetry.gpu.connection import Connection
from arasul_supervisor.telemetry.gpu.nvml_codes import (
    LIBRARY_NOT_FOUND,
    NO_PERMISSION,
    STATE_OF_CODE,
    SURE_BY_ONE_FIGURE,
    code_of,
)
from arasul_supervisor.telemetry.gpu.xid_watch import XidWatch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_TRY_THE_OLDER_CALL: Final = (2, 3, 13, 25, 26)
_ASK_RARELY: Final = (3, 4, 13)
_ASK_AGAIN_S: Final = 600.0
_ASK_LOST_AGAIN_S: Final = 60.0


def connect(arguments: Sequence[str]) -> Connection:
    """Load the library and initialise it, which can take seconds with persistence mode off.

    :param arguments: the folder that holds the bindings, which `-I` may hide
    """
    sys.path.append(arguments[0])
    try:
        import pynvml
    except ImportError:
        failed = {"kind": "failed", "code": LIBRARY_NOT_FOUND, "bindings": None, "library": None}
        return Connection(failed, None)
    code = 0
    try:
        pynvml.nvmlInit()
    except Exception as error:  # an unknown failure of foreign code is a code to report, as any other
        code = code_of(error)
    about = {"bindings": _bindings(pynvml.__file__), "library": _mapped_library_version()}
    if code:
        return Connection({"kind": "failed", "code": code, **about}, None)
    return Connection({"kind": "ready", **about}, Collector(pynvml).sample)


class Collector:
    """Asks all figures of all devices, each in its own try, and remembers what is not worth asking again soon."""

    def __init__(self, nvml: Any) -> None:  # Any: the bindings are untyped
        """Ask through `nvml`, initialised before."""
        self._nvml = nvml
        self._refused: dict[tuple[int, str], tuple[float, int]] = {}
        self._sick: dict[int, tuple[float, dict[str, object]]] = {}
        self._xids = XidWatch(nvml)
        self._now_mono = 0.0
        self._count = 0

    def sample(self, now_mono: float) -> dict[str, object]:
        """One line: every device with its state, or the code that keeps us from listing them."""
        self._now_mono = now_mono
        try:
            count = self._nvml.nvmlDeviceGetCount()
        except Exception as error:  # see `connect`
            return {"kind": "sample", "code": code_of(error), "driver": None, "gpus": []}
        if count != self._count:  # an index is another card's now
            self._count = count
            self._refused.clear()
            self._sick.clear()
            self._xids.forget()
        driver = self._ask(-1, {}, "driver", self._nvml.nvmlSystemGetDriverVersion)
        cuda = self._ask(-1, {}, "cuda", lambda: self._nvml.nvmlSystemGetCudaDriverVersion_v2())
        gpus = [self._device(index) for index in range(count)]
        return {"kind": "sample", "code": 0, "driver": _text(driver), "cuda": cuda, "gpus": gpus}

    def _device(self, index: int) -> dict[str, object]:
        until_mono, last = self._sick.get(index, (0.0, {}))
        if self._now_mono < until_mono:
            return last
        codes: dict[str, int] = {}
        handle = self._ask(index, codes, "handle", lambda: self._nvml.nvmlDeviceGetHandleByIndex(index))
        figures = self._figures(index, handle, codes) if handle is not None else {}
        state = _state(figures, codes)
        reading: dict[str, object] = {"index": index, "state": state, "figures": figures, "codes": codes}
        if state in SURE_BY_ONE_FIGURE:  # polling a lost card may hang; only a reset or a reboot helps
            self._sick[index] = (self._now_mono + _ASK_LOST_AGAIN_S, reading)
        return reading

    def _figures(self, index: int, handle: object, codes: dict[str, int]) -> dict[str, object]:
        nvml = self._nvml

        def ask(figure: str, *attempts: Callable[[], Any]) -> Any:
            return self._ask(index, codes, figure, *attempts)

        return {
            "name": _text(ask("name", lambda: nvml.nvmlDeviceGetName(handle))),
            "uuid": _text(ask("uuid", lambda: nvml.nvmlDeviceGetUUID(handle))),
            "pci_bus_id": _text(ask("pci_bus_id", lambda: nvml.nvmlDeviceGetPciInfo(handle).busId)),
            "memory": ask("memory", *_memory_calls(nvml, handle)),
            "utilization_percent": ask(
                "utilization_percent", lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu
            ),
            "temperature_c": ask(
                "temperature_c",
                lambda: nvml.nvmlDeviceGetTemperatureV(handle, 0),
                lambda: nvml.nvmlDeviceGetTemperature(handle, 0),
            ),
            "power_mw": ask("power_mw", lambda: nvml.nvmlDeviceGetPowerUsage(handle)),
            "power_limit_mw": ask("power_limit_mw", lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(handle)),
            "clock_mhz": ask("clock_mhz", lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM)),
            "clock_max_mhz": ask(
                "clock_max_mhz", lambda: nvml.nvmlDeviceGetMaxClockInfo(handle, nvml.NVML_CLOCK_SM)
            ),
            "event_reasons": ask(
                "event_reasons",
                lambda: nvml.nvmlDeviceGetCurrentClocksEventReasons(handle),
                lambda: nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle),
            ),
            "fan_percent": ask("fan_percent", lambda: nvml.nvmlDeviceGetFanSpeed(handle)),
            "last_xid": ask("last_xid", lambda: self._xids.newest(index, handle, self._now_mono)),
            "processes": _processes(nvml, handle, ask),
            "mig": _mig(nvml, handle, ask),
        }

    def _ask(self, index: int, codes: dict[str, int], figure: str, *attempts: Callable[[], Any]) -> Any:
        """The first attempt that is answered; None, with the code kept, when none is. Any: as the bindings."""
        until_mono, code = self._refused.get((index, figure), (0.0, 0))
        if self._now_mono < until_mono:
            codes[figure] = code
            return None
        for attempt in attempts:
            try:
                return attempt()
            except Exception as error:  # see `connect`
                code = code_of(error)
            if code not in _TRY_THE_OLDER_CALL:
                break
        codes[figure] = code
        if code in _ASK_RARELY:
            self._refused[(index, figure)] = (self._now_mono + _ASK_AGAIN_S, code)
        return None


def _processes(nvml: Any, handle: object, ask: Callable[..., Any]) -> list[list[int | None]] | None:
    """[pid, bytes], the largest first; a pid in both lists is one allocation, hence the larger figure of the two."""
    compute = ask(
        "compute",
        lambda: nvml.nvmlDeviceGetComputeRunningProcesses(handle),
        lambda: nvml.nvmlDeviceGetComputeRunningProcesses_v2(handle),
    )
    graphics = ask(
        "graphics",
        lambda: nvml.nvmlDeviceGetGraphicsRunningProcesses(handle),
        lambda: nvml.nvmlDeviceGetGraphicsRunningProcesses_v2(handle),
    )
    if compute is None:  # models compute: who only draws says nothing of them
        return None
    largest: dict[int, int | None] = {}
    for process in (*compute, *(graphics or ())):
        if process.pid:  # rows of pid 0 have been seen on Orin
            sizes = [size for size in (largest.get(process.pid), process.usedGpuMemory) if size is not None]
            largest[process.pid] = max(sizes, default=None)
    return [[pid, size] for pid, size in sorted(largest.items(), key=lambda row: (-(row[1] or 0), row[0]))]


def _mig(nvml: Any, handle: object, ask: Callable[..., Any]) -> dict[str, object] | None:
    """The card's instances when it is cut into some; None when it cannot be."""
    mode = ask("mig", lambda: nvml.nvmlDeviceGetMigMode(handle))
    if mode is None:
        return None
    is_enabled = mode[0] == 1
    slots = ask("mig_slots", lambda: nvml.nvmlDeviceGetMaxMigDeviceCount(handle)) if is_enabled else 0
    found = (_instance(nvml, handle, slot, ask) for slot in range(slots or 0))
    return {"enabled": is_enabled, "instances": [instance for instance in found if instance is not None]}


def _instance(nvml: Any, handle: object, slot: int, ask: Callable[..., Any]) -> dict[str, object] | None:
    part = f"mig{slot}."
    mig = ask(f"{part}handle", lambda: nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, slot))
    if mig is None:  # code 6: an empty slot
        return None
    return {
        "index": slot,
        "uuid": _text(ask(f"{part}uuid", lambda: nvml.nvmlDeviceGetUUID(mig))),
        "name": _text(ask(f"{part}name", lambda: nvml.nvmlDeviceGetName(mig))),
        "gpu_instance_id": ask(f"{part}gi", lambda: nvml.nvmlDeviceGetGpuInstanceId(mig)),
        "compute_instance_id": ask(f"{part}ci", lambda: nvml.nvmlDeviceGetComputeInstanceId(mig)),
        "memory": ask(f"{part}memory", *_memory_calls(nvml, mig)),
    }


def _memory_calls(nvml: Any, handle: object) -> tuple[Callable[[], Any], Callable[[], Any]]:
    return (
        lambda: _memory(nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2)),
        lambda: _memory(nvml.nvmlDeviceGetMemoryInfo(handle)),
    )


def _memory(info: Any) -> dict[str, int | None]:
    """Bytes; version 1 counts the driver's reserve as used and cannot tell it (facts/gpu.md §3.3)."""
    return {
        "total": int(info.total),
        "used": int(info.used),
        "free": int(info.free),
        "reserved": int(info.reserved) if hasattr(info, "reserved") else None,
    }


def _state(figures: Mapping[str, object], codes: Mapping[str, int]) -> str:
    """`ok` unless one code condemns the device, or nothing is answered and a code says why."""
    states = [STATE_OF_CODE[code] for code in codes.values() if code in STATE_OF_CODE]
    for state in SURE_BY_ONE_FIGURE:
        if state in states:
            return state
    if any(value is not None for value in figures.values()):
        return "ok"
    if NO_PERMISSION in codes.values():  # a card of the host that was not given to this container
        states.append("no_access")
    return states[0] if states else "ok"


def _text(value: object) -> str | None:
    """Old bindings give bytes. What a terminal would obey is taken out."""
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    if not isinstance(text, str):
        return None
    return "".join(letter for letter in text if letter.isprintable()) or None


def _bindings(file: str) -> str:
    """Which distribution gives us `pynvml`: old releases of the one named so shadow nvidia-ml-py with a package."""
    is_package = os.path.basename(file) == "__init__.py"
    folder = os.path.dirname(os.path.dirname(file) if is_package else file)
    prefix = "pynvml-" if is_package else "nvidia_ml_py-"
    versions = [
        name.removeprefix(prefix).removesuffix(".dist-info")
        for name in os.listdir(folder)
        if name.startswith(prefix) and name.endswith(".dist-info")
    ]
    return f"{'pynvml' if is_package else 'nvidia-ml-py'} {versions[0] if versions else 'of unknown version'}"


def _mapped_library_version() -> str | None:
    """The version in the file name of the library that is mapped: `…/libnvidia-ml.so.590.48.01`."""
    with open("/proc/self/maps") as maps:
        match = re.search(r"libnvidia-ml\.so\.(\d+\.\d[\d.]*)$", maps.read(), re.MULTILINE)
    return match[1] if match else None
