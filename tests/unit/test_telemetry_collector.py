"""Guards facts/gpu.md §3.2 to §3.4: what NVIDIA's bindings raise and answer, as the child that asks takes it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from arasul_supervisor.telemetry.gpu.collect_nvml import Collector
from arasul_supervisor.telemetry.gpu.nvml_codes import STATE_OF_CODE, code_of
from arasul_supervisor.telemetry.gpu.nvml_lines import cuda_version_of, readings_of
from arasul_supervisor.telemetry.gpu.xid_watch import XidWatch


class NVMLLibraryMismatchError(Exception):
    """As the bindings have it: no NVMLError, no number."""


class NumberedError(Exception):
    """As NVMLError."""

    def __init__(self, value: int) -> None:
        super().__init__(value)
        self.value = value


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NumberedError(15), 15),
        (NVMLLibraryMismatchError(), 13),
        (AttributeError("nvmlNew"), 13),
        (ValueError(), -1),
    ],
)
def test_what_the_bindings_raise_has_a_number(error: Exception, code: int) -> None:
    assert code_of(error) == code


class CountingNvml:
    """Bindings of one card that refuse everything with one code, and count."""

    def __init__(self, code: int) -> None:
        self.code, self.asked = code, 0

    def __getattr__(self, name: str) -> Any:  # Any: as the bindings
        def call(*_: object, **__: object) -> Any:
            if name == "nvmlDeviceGetCount":
                return 1
            if name in ("nvmlDeviceGetHandleByIndex", "nvmlSystemGetDriverVersion", "nvmlDeviceGetName"):
                return "x"
            self.asked += name == "nvmlDeviceGetPowerUsage"
            raise NumberedError(self.code)

        return call


class Cards:
    """Bindings of cards that are told apart by their UUID; one that is `sick` answers everything with that code."""

    def __init__(self, *uuids: str, sick: str = "", code: int = 15) -> None:
        self.uuids, self.sick, self.code = list(uuids), sick, code

    def __getattr__(self, name: str) -> Any:  # Any: as the bindings
        def call(*words: Any, **_: object) -> Any:  # Any: as the bindings
            if name == "nvmlDeviceGetCount":
                return len(self.uuids)
            uuid = self.uuids[words[0]] if name == "nvmlDeviceGetHandleByIndex" else (words or [""])[0]
            if uuid == self.sick and name.startswith("nvmlDevice"):
                raise NumberedError(self.code)
            if name in ("nvmlDeviceGetHandleByIndex", "nvmlDeviceGetUUID"):
                return uuid
            raise NumberedError(3)

        return call


def test_a_card_that_moves_up_does_not_inherit_the_sickness_of_its_place() -> None:
    nvml = Cards("GPU-sick", "GPU-well", sick="GPU-sick")
    collector = Collector(nvml)
    collector.sample(100.0)
    nvml.uuids.remove("GPU-sick")

    (gpu,) = readings_of(collector.sample(105.0))

    assert (gpu.uuid, gpu.state) == ("GPU-well", "ok")


@pytest.mark.parametrize(("compute", "processes"), [(3, None), (0, [[7, 5]])], ids=["refused", "told"])
def test_processes_are_unknown_where_those_that_compute_are_not_told(
    compute: int, processes: list[list[int]] | None
) -> None:
    class Lists(Cards):
        def __getattr__(self, name: str) -> Any:  # Any: as the bindings
            if name == "nvmlDeviceGetGraphicsRunningProcesses":
                return lambda _handle: []
            if name == "nvmlDeviceGetComputeRunningProcesses" and not compute:
                return lambda _handle: [SimpleNamespace(pid=7, usedGpuMemory=5)]
            return super().__getattr__(name)

    sample: Any = Collector(Lists("GPU-a")).sample(100.0)

    assert sample["gpus"][0]["figures"]["processes"] == processes


@pytest.mark.parametrize(("code", "times"), [(3, 2), (4, 2), (10, 3), (15, 2)])
def test_what_is_refused_for_good_is_asked_again_after_ten_minutes_only(code: int, times: int) -> None:
    nvml = CountingNvml(code)
    collector = Collector(nvml)

    for now_mono in (100.0, 105.0, 700.0):
        collector.sample(now_mono)

    assert nvml.asked == times


class OneXid:
    """Bindings that report one error of each card, once."""

    nvmlEventTypeXidCriticalError = 8

    def __init__(self, *xids: int) -> None:
        self.xids, self.sets = list(xids), 0

    def nvmlEventSetCreate(self) -> object:
        self.sets += 1
        return self.sets

    def nvmlDeviceRegisterEvents(self, handle: object, types: int, events: object) -> None:
        assert types == self.nvmlEventTypeXidCriticalError

    def nvmlEventSetWait_v2(self, events: object, timeout_ms: int) -> Any:  # Any: as the bindings
        assert timeout_ms == 0
        if not self.xids:
            raise NumberedError(10)

        class Event:
            eventType = 8
            eventData = self.xids.pop(0)

        return Event


def test_the_last_error_report_of_a_card_stays_known() -> None:
    nvml = OneXid(31, 79)
    watch = XidWatch(nvml)

    told = [watch.newest(0, "handle", now_mono) for now_mono in (100.0, 105.0)]

    assert (told, nvml.sets) == ([(79, 100.0), (79, 100.0)], 1)


def test_a_card_without_error_reports_has_none() -> None:
    assert XidWatch(OneXid()).newest(0, "handle", 100.0) is None


@pytest.mark.parametrize(
    ("number", "text"), [(13010, "13.1"), (12040, "12.4"), (0, None), (None, None), ("x", None)]
)
def test_the_version_of_cuda_is_read_from_its_number(number: object, text: str | None) -> None:
    assert cuda_version_of({"cuda": number}) == text


def test_the_codes_that_condemn_have_their_states() -> None:
    assert STATE_OF_CODE == {
        9: "no_driver",
        15: "lost",
        16: "reset_required",
        17: "no_access",
        18: "driver_mismatch",
        28: "lost",
        999: "no_access",
    }
