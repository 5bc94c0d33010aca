"""Guards facts/gpu.md §6: what jetson-stats says in other units, or says without knowing it, is never shown so."""

from __future__ import annotations

import copy
import json
import sys
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arasul_supervisor.telemetry.gpu import kinds
from arasul_supervisor.telemetry.gpu.collect_jtop import JtopFigures, Unchanging, connect, reason_of
from arasul_supervisor.telemetry.gpu.jtop_lines import jtop_readings_of, sample_line
from arasul_supervisor.telemetry.gpu.nvml_codes import LIBRARY_NOT_FOUND, NO_PERMISSION
from arasul_supervisor.telemetry.gpu.readings import GpuProcess, GpuReading
from arasul_supervisor.telemetry.gpu.sources import sources_for
from tests.engine.board_trees import BOARDS
from tests.engine.telemetry_ground import BoardSettings, Diary, HandClock, Pids

if TYPE_CHECKING:
    from collections.abc import Mapping

ORIN: Mapping[str, Any] = json.loads((BOARDS / "jetson-agx-orin-jp6" / "jtop-busy.json").read_text())
THOR: Mapping[str, Any] = {  # as 7.2 builds it from NVML, everything it does not know told as 0
    "uptime": 12.5,
    "gpu": {
        "Thor": {
            "type": "integrated",
            "status": {"load": 0.0, "railgate": None, "temperature": 41},
            "freq": {"governor": "nvhost_podgov", "cur": 1575, "max": 1575, "min": 315000},
            "power_control": "nvml",
        }
    },
    "temperature": {"gpu": {"temp": -256, "online": False}, "tj": {"temp": 45.0, "online": True}},
    "mem": {"EMC": {"val": 3, "cur": 4266000, "online": True}},
    "processes": [[77, "root", "I", "Compute", 20, "S", 1.0, 100, 2048, "ollama"]],
}
OLLAMA = 1792595
OLLAMA_BYTES = 23_525_644 * 1024


def changed(payload: Mapping[str, Any], path: str, value: object) -> Any:  # Any: JSON
    """The payload with one value, which lies at `a/b/c`, exchanged."""
    whole: Any = copy.deepcopy(payload)
    *way, last = path.split("/")
    at = whole
    for key in way:
        at = at[key]
    at[last] = value
    return whole


def line_of(payload: object) -> dict[str, Any]:  # Any: JSON
    """The line as the parent gets it: through JSON."""
    line: dict[str, Any] = json.loads(json.dumps(sample_line(payload, version="7.2.2")))
    return line


def reading_of(payload: object) -> GpuReading:
    (reading,) = jtop_readings_of(line_of(payload))
    return reading


def row(pid: object, kilobytes: object) -> list[object]:
    return [pid, "root", "I", "Compute", 20, "S", 97.2, 2310144, kilobytes, "ollama"]


def test_the_recorded_payload_of_a_busy_orin_is_read_in_our_units() -> None:
    assert reading_of(ORIN) == GpuReading(
        index=0,
        source="jtop",
        utilization_percent=98.5,
        memory_by_processes_bytes=OLLAMA_BYTES,  # 23525644 kB
        temperature_c=64.25,
        clock_mhz=1300.5,  # 1300500 kHz
        clock_max_mhz=1300.5,
        processes=(GpuProcess(OLLAMA, OLLAMA_BYTES),),
        is_unified=True,
    )
    assert line_of(ORIN)["emc_percent"] == 61


def test_what_the_nvml_path_tells_as_zero_is_unknown_and_its_clocks_may_be_in_mhz() -> None:
    thor = changed(THOR, "processes", [row(77, 0)])

    reading = reading_of(changed(thor, "gpu/Thor/freq/max", 1_575_000))

    assert (reading.utilization_percent, reading.temperature_c) == (None, 41)
    assert (reading.clock_mhz, reading.clock_max_mhz) == (1575.0, 1575.0)  # 1575 MHz and 1575000 kHz
    assert reading.processes == (GpuProcess(77, None),)
    assert reading.memory_by_processes_bytes is None


@pytest.mark.parametrize(
    ("asked", "sources"), [(False, ["nvml", "tegra"]), (True, ["nvml", "tegra", "jtop"])]
)
def test_it_is_a_source_only_when_it_is_asked_for(asked: bool, sources: list[str]) -> None:
    settings, pids = BoardSettings(Path("/"), jtop=asked), Pids()

    built = sources_for(settings, HandClock(), Diary(), own=pids.own, disown=pids.disown)

    assert [source.report().source for source in built] == sources


@pytest.mark.parametrize(
    ("path", "value", "figure", "is_so"),
    [
        pytest.param("gpu/gpu/status/load", 0.0, "utilization_percent", 0.0, id="an idle GPU by sysfs"),
        pytest.param("gpu/gpu/status/load", None, "utilization_percent", None, id="no load"),
        pytest.param("gpu/gpu/status", {}, "utilization_percent", None, id="no load file"),
        pytest.param("gpu/gpu/status/load", "98.5", "utilization_percent", None, id="a word for a load"),
        pytest.param("gpu/gpu/status/load", True, "utilization_percent", None, id="a truth value for a load"),
        pytest.param("gpu/gpu/status/load", float("nan"), "utilization_percent", None, id="NaN"),
        pytest.param("gpu/gpu/freq/cur", 0, "clock_mhz", 0.0, id="a clock that stands still"),
        pytest.param("gpu/gpu/freq/cur", 306_000, "clock_mhz", 306.0, id="a slow clock"),
        pytest.param("gpu/gpu/freq", {"governor": "x"}, "clock_max_mhz", None, id="no clocks"),
        pytest.param("temperature/gpu/temp", -256, "temperature_c", None, id="-256 is a gated GPU"),
        pytest.param("temperature/gpu/online", False, "temperature_c", None, id="offline"),
        pytest.param("temperature/gpu/temp", -5.5, "temperature_c", -5.5, id="a cold board"),
        pytest.param("temperature", {}, "temperature_c", None, id="no zone"),
        pytest.param("temperature", {"GPU": {"temp": 50.0}}, "temperature_c", 50.0, id="JetPack 5's name"),
        pytest.param("processes", [], "processes", (), id="asked, none"),
        pytest.param("processes", [], "memory_by_processes_bytes", 0, id="no memory of no process"),
        pytest.param("processes", None, "processes", None, id="not asked"),
        pytest.param("processes", [[1, "root"]], "processes", None, id="a row cut short"),
        pytest.param("processes", [row("7", 1)], "processes", None, id="a row of another shape"),
        pytest.param(
            "processes", [row(7, 1), row(7, 2)], "processes", (GpuProcess(7, 3072),), id="two rows of a pid"
        ),
        pytest.param(
            "processes", [row(7, None), row(8, 2)], "memory_by_processes_bytes", None, id="one of two unknown"
        ),
    ],
)
def test_a_figure_of_the_sysfs_path_is_a_number_or_unknown(
    path: str, value: object, figure: str, is_so: object
) -> None:
    assert getattr(reading_of(changed(ORIN, path, value)), figure) == is_so


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(changed(ORIN, "mem/EMC", {}), id="debugfs cannot be read"),
        pytest.param(changed(ORIN, "mem/EMC/online", False), id="the memory controller is offline"),
        pytest.param(changed(ORIN, "gpu/gpu/power_control", "nvml"), id="NVML may have failed"),
    ],
)
def test_an_empty_table_of_a_service_that_cannot_know_is_unknown(payload: object) -> None:
    reading = reading_of(changed(payload, "processes", []))  # type: ignore[arg-type]  # JSON

    assert (reading.processes, reading.memory_by_processes_bytes) == (None, None)


@pytest.mark.parametrize("emc", [{}, {"val": 61, "online": False}, {"online": True}, None, 61])
def test_a_memory_controller_that_is_not_read_has_no_load(emc: object) -> None:
    assert line_of(changed(ORIN, "mem/EMC", emc))["emc_percent"] is None


def test_no_figure_of_memory_or_of_the_rails_is_taken() -> None:
    reading = reading_of(ORIN)

    assert reading.memory_used_bytes is None
    assert reading.memory_total_bytes is None
    assert reading.power_watts is None


def test_of_two_gpus_the_first_has_the_processes() -> None:
    two = changed(ORIN, "gpu/second", {"type": "discrete"})

    first, second = jtop_readings_of(line_of(two))

    assert first.processes == (GpuProcess(OLLAMA, OLLAMA_BYTES),)
    assert (second.index, second.processes, second.utilization_percent) == (1, None, None)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=10) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)


@given(
    path=st.sampled_from(
        "gpu gpu/gpu gpu/gpu/status gpu/gpu/status/load gpu/gpu/freq gpu/gpu/freq/cur temperature temperature/gpu "
        "temperature/gpu/temp mem mem/EMC processes uptime".split()
    ),
    value=JSON,
)
def test_garbage_anywhere_in_a_payload_gives_readings_without_it(path: str, value: object) -> None:
    readings = jtop_readings_of(line_of(changed(ORIN, path, value)))

    assert all(reading.source == "jtop" for reading in readings)
    json.dumps(line_of(changed(ORIN, path, value)), allow_nan=False)


@given(JSON)
def test_garbage_for_a_payload_gives_no_gpu_with_a_figure(payload: object) -> None:
    line = sample_line(payload, version="7.2.2")

    assert line["code"] == 0
    assert isinstance(jtop_readings_of(line), tuple)


@dataclass(slots=True)
class HandClient:
    """What the collector uses of a client of jetson-stats, moved by the test."""

    payload: dict[str, Any] = field(default_factory=lambda: dict(ORIN))
    interval: float = 0.05
    is_ok: bool = True
    ended_by: Exception | None = None

    @property
    def uptime(self) -> timedelta:
        return timedelta(seconds=self.payload["uptime"])

    def ok(self, *, spin: bool) -> bool:
        assert spin, "a look must not wait for the next figures"
        if self.ended_by is not None:
            raise self.ended_by
        return self.is_ok

    def json(self) -> str:
        return json.dumps(self.payload)


def figures_of(client: HandClient, clock: HandClock) -> JtopFigures:
    """Figures that were heard once and then again, at the clock's present time."""
    figures = JtopFigures(client, version="7.2.2", now=clock.mono)
    figures.hear(client)
    client.payload["uptime"] += 1
    figures.hear(client)
    return figures


def test_figures_are_told_while_the_uptime_moves_and_refused_when_it_has_stood_for_three_intervals() -> None:
    client, clock = HandClient(), HandClock()
    figures = figures_of(client, clock)
    heard_mono = clock.now
    clock.now += 2.9
    figures.hear(client)  # the same uptime again: no news

    told = figures.sample(heard_mono + 3.0)
    refused = figures.sample(heard_mono + 3.1)

    assert (told["code"], told["uptime_s"]) == (0, ORIN["uptime"] + 1)
    assert refused["code"] != 0
    assert "nothing new for 3 s" in str(refused["reason"])
    assert "gpus" not in refused


def test_two_looks_within_one_interval_of_the_service_both_have_figures() -> None:
    clock = HandClock()
    figures = figures_of(HandClient(), clock)

    assert [figures.sample(clock.now + after_s)["code"] for after_s in (0.0, 0.01)] == [0, 0]


def test_a_service_that_looks_rarely_for_another_client_is_given_the_time() -> None:
    clock = HandClock()
    figures = figures_of(HandClient(interval=5.0), clock)

    assert figures.sample(clock.now + 14.0)["code"] == 0
    assert figures.sample(clock.now + 16.0)["code"] != 0


@pytest.mark.parametrize(
    ("error", "words"),
    [(EOFError(), "EOFError"), (BrokenPipeError(32, "Broken pipe"), "Broken pipe")],
    ids=["killed", "restarted"],
)
def test_a_lost_connection_is_told_by_its_reason(error: Exception, words: str) -> None:
    figures = figures_of(HandClient(ended_by=error), HandClock())

    refused = figures.sample(1000.0)

    assert refused["code"] != 0
    assert words in str(refused["reason"])


def test_a_client_that_has_ended_without_an_error_has_no_figures() -> None:
    assert figures_of(HandClient(is_ok=False), HandClock()).sample(1000.0)["code"] != 0


def test_what_was_heard_once_may_be_left_over_and_does_not_count_as_a_change() -> None:
    client = HandClient()
    figures = JtopFigures(client, version="7.2.2")
    figures.hear(client)
    figures.hear(client)

    with pytest.raises(Unchanging):
        figures.wait_for_a_change(limit_s=0.01)


def test_the_package_is_found_where_its_documentation_has_it_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kinds, "folder_of_module", lambda _name: "")
    system = tmp_path / f"usr/local/lib/python{sys.version_info[0]}.{sys.version_info[1]}/dist-packages"
    nowhere = kinds.jtop_kind().arguments(tmp_path)
    (system / "jtop").mkdir(parents=True)

    there = kinds.jtop_kind().arguments(tmp_path)

    assert (nowhere[0], there) == ("", (str(system), str(tmp_path / "run/jtop.sock")))


def test_without_the_package_the_reason_names_the_extra_to_install() -> None:
    connection = connect(("", "/run/jtop.sock"))

    assert connection.sample is None
    assert (connection.hello["kind"], connection.hello["code"]) == ("failed", LIBRARY_NOT_FOUND)
    assert "arasul-supervisor[jetson]" in str(connection.hello["reason"])
    assert "jtop" not in sys.modules


def test_a_missing_permission_is_told_with_the_group_that_has_it() -> None:
    wrapped = RuntimeError("I can't access jtop.service.\nPlease logout or reboot this board.")
    wrapped.__context__ = PermissionError(13, "Permission denied")

    code, sentence = reason_of(wrapped, "/run/jtop.sock")

    assert code == NO_PERMISSION
    assert sentence.startswith("No permission for /run/jtop.sock: join its group, jtop")


def test_a_text_of_several_lines_becomes_one_sentence() -> None:
    _, sentence = reason_of(RuntimeError("is not active. Please run:\nsudo jtop"), "/run/jtop.sock")

    assert sentence == "jetson-stats fails at /run/jtop.sock: is not active. Please run: sudo jtop"
