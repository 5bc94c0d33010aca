"""Guards facts/gpu.md §4: a Jetson's own files give its figures, whatever state they are in, and nothing made up."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from arasul_supervisor.telemetry.board import BoardReader, board_of
from arasul_supervisor.telemetry.gpu.collect_tegra import TegraCollector, read_nvmap
from arasul_supervisor.telemetry.gpu.tegra_lines import tegra_readings_of
from arasul_supervisor.telemetry.gpu.tegra_node import find_node, read_node
from arasul_supervisor.telemetry.machine import read_machine
from arasul_supervisor.telemetry.power import find_chips, read_power
from tests.engine.board_trees import laid_out

if TYPE_CHECKING:
    from pathlib import Path

ORIN = "jetson-agx-orin-jp6"
NODE = "sys/class/devfreq/17000000.gpu"


def write(root: Path, files: dict[str, object]) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")


def no_sleep(_seconds: float) -> None:
    return


@pytest.mark.parametrize(
    ("nodes", "found"),
    [
        (["17000000.gpu", "2c00000.external-memory-controller"], "17000000.gpu"),
        (["17000000.ga10b"], "17000000.ga10b"),
        (["17000000.gv11b"], "17000000.gv11b"),
        (["17000000.gp10b"], "17000000.gp10b"),
        (["gpu-nvd-0", "gpu-gpc-0"], "gpu-gpc-0"),
        (["57000000.gpu"], "57000000.gpu"),
        (["13e00000.mali-gpu", "gpufreq"], None),
        (["fb000000.gpu"], None),  # the Mali of a Rockchip
        (["ff9a0000.gpu"], None),
        ([], None),
    ],
)
def test_the_gpu_of_every_generation_is_found_by_its_node(
    nodes: list[str], found: str | None, tmp_path: Path
) -> None:
    for node in nodes:
        (tmp_path / "sys/class/devfreq" / node).mkdir(parents=True)

    assert find_node(tmp_path) == found


@pytest.mark.parametrize(
    ("file", "has_load"),
    [
        (f"{NODE}/device/load", True),
        ("sys/devices/gpu.0/load", True),
        ("sys/devices/platform/gpu.0/load", True),
        (f"{NODE}/load", False),
    ],
)
def test_the_load_is_read_where_the_release_keeps_it(file: str, has_load: bool, tmp_path: Path) -> None:
    write(tmp_path, {f"{NODE}/cur_freq": 306000000, file: 500})

    reading = read_node(tmp_path, sleep=no_sleep)

    assert reading is not None
    assert (reading.has_load, reading.utilization_percent) == (has_load, 50.0 if has_load else None)


def test_a_short_look_that_says_idle_does_not_hide_a_busy_gpu(tmp_path: Path) -> None:
    write(tmp_path, {f"{NODE}/device/load": 1000})
    looks = iter((0, 1000, 500, 0))

    reading = read_node(tmp_path, sleep=lambda _: write(tmp_path, {f"{NODE}/device/load": next(looks)}))

    assert reading is not None
    assert reading.utilization_percent == 50.0  # (1000 + 0 + 1000 + 500 + 0) / 5 permille


@pytest.mark.parametrize(
    ("status", "zone", "state"),
    [
        ("suspended", "gated", "gated"),
        ("suspended", "41000", "gated"),
        ("active", "41000", "ok"),
        ("active", "gated", "ok"),
        (None, "gated", "gated"),
        ("unsupported", "gated", "gated"),
        (None, "41000", "ok"),
        (None, None, "ok"),
    ],
)
def test_a_gpu_without_power_is_gated_and_not_sick(
    status: str | None, zone: str | None, state: str, tmp_path: Path
) -> None:
    write(tmp_path, {f"{NODE}/device/load": 0})
    if status:
        write(tmp_path, {f"{NODE}/device/power/runtime_status": status})
    held = None
    if zone is not None:
        write(tmp_path, {"sys/class/thermal/thermal_zone0/type": "gpu-thermal"})
        temp = tmp_path / "sys/class/thermal/thermal_zone0/temp"
        if zone == "gated":
            os.mkfifo(temp)
            held = os.open(temp, os.O_RDWR)
        else:
            temp.write_text(zone)

    reading = tegra_readings_of(line(tmp_path))[0]
    if held is not None:
        os.close(held)

    assert reading.state == state
    assert (reading.temperature_c is None) == (zone in ("gated", None))


def line(root: Path) -> dict[str, Any]:  # Any: JSON
    return TegraCollector(root).sample(100.0)


def test_a_node_that_is_not_there_yet_is_found_at_a_later_look(tmp_path: Path) -> None:
    collector = TegraCollector(tmp_path)
    before = tegra_readings_of(collector.sample(100.0))
    write(tmp_path, {f"{NODE}/device/load": 10})

    after = tegra_readings_of(collector.sample(105.0))

    assert (before, [reading.node for reading in after]) == ((), ["17000000.gpu"])


def test_zones_are_looked_for_again_after_a_minute(tmp_path: Path) -> None:
    zone = "sys/class/thermal/thermal_zone0"
    write(tmp_path, {f"{zone}/type": "cpu-thermal", f"{zone}/temp": 50000})
    reader = BoardReader(tmp_path)
    first = reader.read(100.0)
    (tmp_path / zone).rename(tmp_path / "unplugged")
    unplugged = reader.read(105.0)
    write(tmp_path, {"sys/class/thermal/thermal_zone1/type": "tj-thermal"})
    write(tmp_path, {"sys/class/thermal/thermal_zone1/temp": 45000})

    later = reader.read(160.0)

    assert [board.temperatures_c for board in (first, unplugged, later)] == [
        {"cpu": 50.0},
        {"cpu": None},
        {"tj": 45.0},
    ]


def test_a_zone_that_fails_in_passing_keeps_its_value_for_a_while(tmp_path: Path) -> None:
    zone = "sys/class/thermal/thermal_zone0"
    write(tmp_path, {f"{zone}/type": "cpu-thermal", f"{zone}/temp": 50000})
    reader = BoardReader(tmp_path)
    reader.read(100.0)
    write(tmp_path, {f"{zone}/temp": ""})

    told = [reader.read(now) for now in (105.0, 110.0, 114.9, 115.0)]

    assert [board.temperatures_c["cpu"] for board in told] == [50.0, 50.0, 50.0, None]
    assert [board.kept_age_s for board in told] == [{"cpu": 5.0}, {"cpu": 10.0}, {"cpu": 14.9}, {}]


def test_of_several_limits_of_a_kind_the_lowest_counts(tmp_path: Path) -> None:
    zone = "sys/class/thermal/thermal_zone0"
    write(tmp_path, {f"{zone}/type": "cpu-thermal", f"{zone}/temp": 50000})
    for number, millidegrees in ((2, 85000), (10, 97000)):
        write(tmp_path, {f"{zone}/trip_point_{number}_type": "passive"})
        write(tmp_path, {f"{zone}/trip_point_{number}_temp": millidegrees})

    assert BoardReader(tmp_path).read(0.0).temperature_limits_c["cpu"].passive == 85.0


def test_a_gated_zone_shows_no_old_value(tmp_path: Path) -> None:
    zone = tmp_path / "sys/class/thermal/thermal_zone0"
    write(tmp_path, {"sys/class/thermal/thermal_zone0/type": "gpu-thermal"})
    (zone / "temp").write_text("50000\n")
    reader = BoardReader(tmp_path)
    reader.read(100.0)
    (zone / "temp").unlink()
    os.mkfifo(zone / "temp")
    held = os.open(zone / "temp", os.O_RDWR)

    board = reader.read(105.0)
    os.close(held)

    assert (board.temperatures_c["gpu"], board.gated_zones) == (None, ("gpu",))


@pytest.mark.parametrize(
    ("labels", "watts", "scope"),
    [
        ({"VDD_IN": 5, "VDD_CPU_GPU_CV": 1, "VDD_SOC": 1}, 5.0, "module"),
        ({"VDD_GPU_SOC": 3, "VDD_CPU_CV": 1, "VIN_SYS_5V0": 4}, 8.0, "module"),
        ({"VDD_GPU_SOC": 3, "VDD_CPU_CV": 1}, None, None),
        ({"VDD_GPU_SOC": 3, "VDD_CPU_CV": -1, "VIN_SYS_5V0": 4}, 6.0, "module"),
        ({"VDD_GPU": 3, "VDD_CPU_SOC_MSS": 1, "VIN_SYS_5V0": 4}, None, None),
        ({}, None, None),
    ],
    ids=[
        "Orin NX and Nano",
        "AGX Orin",
        "a rail is missing",
        "a negative rail",
        "Thor without its input",
        "none",
    ],
)
def test_rails_are_added_up_where_it_is_known_that_they_add_up(
    labels: dict[str, int], watts: float | None, scope: str | None, tmp_path: Path
) -> None:
    chip = "sys/class/hwmon/hwmon4"
    write(tmp_path, {f"{chip}/name": "ina3221"})
    for number, (label, amps) in enumerate(labels.items(), start=1):
        write(tmp_path, {f"{chip}/in{number}_label": label, f"{chip}/in{number}_input": 1000})
        write(tmp_path, {f"{chip}/curr{number}_input": 1000 * amps})

    power = read_power(find_chips(tmp_path))

    assert (power.total_watts, power.total_scope) == (watts, scope)
    assert {rail.label: rail.watts for rail in power.rails} == labels


def test_what_the_child_writes_is_what_the_daemon_reads(tmp_path: Path) -> None:
    with laid_out(ORIN, tmp_path / "root") as root:
        told = BoardReader(root).read(0.0)

    read = board_of(told.as_json())

    assert (read.temperatures_c, read.temperature_limits_c) == (
        told.temperatures_c,
        told.temperature_limits_c,
    )
    assert (read.power, read.fans, read.overcurrent) == (told.power, told.fans, told.overcurrent)
    assert read.throttle_alerts == told.throttle_alerts


@pytest.mark.parametrize(
    ("text", "clients"),
    [
        ("user  ollama  12  4K\nuser  ollama  12  1M\ntotal  5K\n", [(12, (4 << 10) + (1 << 20))]),
        ("user  ollama  12  0K\n", None),  # Thor: nothing but zeros
        ("", None),
        ("user  ollama  ١٢  4K\nuser  ollama  12  4X\nuser ollama 12 K\n", None),
    ],
)
def test_memory_of_processes_is_read_where_debugfs_tells_it(
    text: str, clients: list[tuple[int, int]] | None, tmp_path: Path
) -> None:
    write(tmp_path, {"sys/kernel/debug/nvmap/iovmm/clients": text})

    assert read_nvmap(tmp_path) == clients


@pytest.mark.parametrize(
    ("files", "l4t", "jetpack"),
    [
        ({"etc/nv_tegra_release": "# R36 (release), REVISION: 4.7, GCID: 1"}, "36.4.7", "6"),
        ({"etc/nv_tegra_release": "# R35 (release), REVISION: 4.1, GCID: 1"}, "35.4.1", "5"),
        ({"etc/nv_tegra_release": "# R39 (release), REVISION: 2.0, GCID: 1"}, "39.2.0", "7"),
        ({"etc/nv_tegra_release": "# R50 (release), REVISION: 1, GCID: 1"}, "50.1", None),
        ({"etc/nv_tegra_release": "# R36 (release), REVISION: 4.7", ".dockerenv": ""}, None, None),
        ({"etc/nv_tegra_release": ""}, None, None),
    ],
    ids=["JetPack 6", "JetPack 5", "JetPack 7", "one to come", "the image's own file", "empty"],
)
def test_the_release_is_the_boards_and_names_its_jetpack(
    files: dict[str, object], l4t: str | None, jetpack: str | None, tmp_path: Path
) -> None:
    write(tmp_path, files)

    machine = read_machine(tmp_path)

    assert (machine.l4t, machine.jetpack) == (l4t, jetpack)


def test_another_boards_device_tree_is_no_jetsons(tmp_path: Path) -> None:
    base = "sys/firmware/devicetree/base"
    write(tmp_path, {f"{base}/model": "Raspberry Pi 5", f"{base}/compatible": "raspberrypi,5-model-b"})

    machine = read_machine(tmp_path)

    assert (machine.model, machine.soc, machine.is_jetson) == (None, None, False)
