"""The driver's own error reports, the Xids, as NVML gives them to whoever asks in time."""

from __future__ import annotations

from typing import Any, Final

from arasul_supervisor.telemetry.gpu.nvml_codes import TIMEOUT, code_of

_MOST_XIDS: Final = 64  # a storm of them is told by its last


class XidWatch:
    """The last of each card from the child's start on; else they stand in the kernel log alone.

    One event set for each card, so that an event needs no handle to tell its card.
    """

    def __init__(self, nvml: Any) -> None:  # Any: the bindings are untyped
        """Watch through `nvml`; a card is watched from its first question on."""
        self._nvml = nvml
        self._sets: dict[int, Any] = {}
        self._newest: dict[int, tuple[int, float]] = {}

    def forget(self) -> None:
        """Begin anew: the cards are others."""
        for events in self._sets.values():
            self._nvml.nvmlEventSetFree(events)
        self._sets.clear()
        self._newest.clear()

    def newest(self, index: int, handle: object, now_mono: float) -> tuple[int, float] | None:
        """The last Xid of this card and when it was seen; None: there was none. Raises as the bindings do."""
        nvml = self._nvml
        if index not in self._sets:
            events = nvml.nvmlEventSetCreate()
            try:
                nvml.nvmlDeviceRegisterEvents(handle, nvml.nvmlEventTypeXidCriticalError, events)
            except Exception:  # whatever it is, the asker keeps its code
                nvml.nvmlEventSetFree(events)
                raise
            self._sets[index] = events
        for _ in range(_MOST_XIDS):
            try:
                event = nvml.nvmlEventSetWait_v2(self._sets[index], 0)
            except Exception as error:  # see `connect`
                if code_of(error) == TIMEOUT:  # nothing new
                    break
                raise
            if event.eventType == nvml.nvmlEventTypeXidCriticalError:
                self._newest[index] = (int(event.eventData), now_mono)
        return self._newest.get(index)
