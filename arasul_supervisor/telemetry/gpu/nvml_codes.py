"""NVML's numbers that mean something to a supervisor (facts/gpu.md §3.4, nvml.h), for the child and for the daemon."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

NO_PERMISSION: Final = 4
DRIVER_NOT_LOADED: Final = 9
TIMEOUT: Final = 10
UNEXPECTED: Final = -1
LIBRARY_NOT_FOUND: Final = 12
STATE_OF_CODE: Final[Mapping[int, str]] = {
    9: "no_driver",
    15: "lost",
    16: "reset_required",
    17: "no_access",
    18: "driver_mismatch",
    28: "lost",
    999: "no_access",
}
SURE_BY_ONE_FIGURE: Final = ("lost", "reset_required")  # 17 and 999 of one figure say nothing of the device
XID_OFF_THE_BUS: Final = 79
GRAVE_XIDS: Final[Mapping[int, str]] = {  # NVIDIA's Xid catalogue; those of a faulty program are left out
    48: "a double-bit memory error",
    62: "a halted microcontroller",
    64: "a failure to retire bad memory",
    74: "an NVLink error",
    XID_OFF_THE_BUS: "it has fallen off the bus",
    95: "an uncontained memory error",
    119: "its GSP firmware does not answer",
    120: "an error of its GSP firmware",
}


def code_of(error: Exception) -> int:
    """The library's number for what went wrong.

    NVMLLibraryMismatchError is no NVMLError and stands for code 13, as a function missing from the bindings does.
    NVMLError compares by `.value` of the other side, so exceptions are never compared here.
    """
    value = getattr(error, "value", None)
    if isinstance(value, int):
        return value
    is_missing = isinstance(error, AttributeError) or type(error).__name__ == "NVMLLibraryMismatchError"
    return 13 if is_missing else UNEXPECTED
