"""Guards the doctor's checks of driver and libraries: each fault that hides a card is named with its cure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from arasul_supervisor.telemetry.visibility.checks_driver import check_driver, check_library
from arasul_supervisor.telemetry.visibility.facts import read_board, read_driver
from tests.engine.visibility_ground import (
    VERSION,
    card,
    container,
    libraries,
    link,
    well_orin,
    well_pc,
    write,
)

if TYPE_CHECKING:
    from pathlib import Path

    from arasul_supervisor.telemetry.visibility.finding import Finding

SECURE_BOOT = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"


def driver_of(root: Path) -> Finding:
    return check_driver(read_driver(root, {}), read_board(root))


def library_of(root: Path, **environ: str) -> Finding:
    return check_library(read_driver(root, environ), read_board(root))


def test_a_pc_with_its_driver_is_well(tmp_path: Path) -> None:
    well_pc(tmp_path)

    found = driver_of(tmp_path), library_of(tmp_path)

    assert [one.status for one in found] == ["ok", "ok"]
    assert VERSION in found[0].seen and VERSION in found[1].seen


def test_an_orin_is_well_without_the_version_of_a_module(tmp_path: Path) -> None:
    well_orin(tmp_path)

    found = driver_of(tmp_path), library_of(tmp_path)

    assert [one.status for one in found] == ["ok", "ok"]


def test_a_box_without_a_gpu_is_skipped(tmp_path: Path) -> None:
    write(tmp_path, "sys/bus/pci/devices/0000:00:02.0/vendor", "0x8086\n")
    write(tmp_path, "sys/bus/pci/devices/0000:00:02.0/class", "0x030000\n")

    assert driver_of(tmp_path).status == library_of(tmp_path).status == "skip"


def test_the_sound_device_of_a_card_is_no_card(tmp_path: Path) -> None:
    write(tmp_path, "sys/bus/pci/devices/0000:01:00.1/vendor", "0x10de\n")
    write(tmp_path, "sys/bus/pci/devices/0000:01:00.1/class", "0x040300\n")

    assert read_driver(tmp_path, {}).cards == ()


@pytest.mark.parametrize(
    ("holder", "word"), [("nouveau", "nouveau"), ("vfio-pci", "virtual machine")], ids=["nouveau", "vfio"]
)
def test_a_card_held_by_another_driver_is_invisible(holder: str, word: str, tmp_path: Path) -> None:
    card(tmp_path, driver=holder)

    found = driver_of(tmp_path)

    assert found.status == "fail"
    assert word in found.seen + found.advice


@pytest.mark.parametrize(
    ("content", "is_named"),
    [("\6\0\0\0\1", True), ("\6\0\0\0\0", False), (None, False)],
    ids=["secure boot on", "off", "unknown"],
)
def test_a_card_without_a_driver_names_secure_boot_only_where_it_is_on(
    content: str | None, is_named: bool, tmp_path: Path
) -> None:
    card(tmp_path, driver=None)
    if content is not None:
        write(tmp_path, SECURE_BOOT, content)

    found = driver_of(tmp_path)

    assert found.status == "fail"
    assert "modprobe nvidia" in found.advice
    assert ("Secure Boot" in found.advice) is is_named


def test_a_driver_that_took_no_card_sends_to_the_kernels_log(tmp_path: Path) -> None:
    write(tmp_path, "sys/module/nvidia/version", f"{VERSION}\n")
    card(tmp_path, driver=None)

    found = driver_of(tmp_path)

    assert (found.status, "dmesg" in found.advice) == ("fail", True)


def test_a_driver_older_than_ollama_asks_for_is_a_warning(tmp_path: Path) -> None:
    write(tmp_path, "sys/module/nvidia/version", "535.183.01\n")

    found = driver_of(tmp_path)

    assert (found.status, "535.183.01" in found.seen) == ("warn", True)


@pytest.mark.parametrize(
    "line",
    [
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  590.48.01  Mon Dec  8 13:05:05 UTC 2025",
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  590.48.01  Release Build  (builder)",
    ],
    ids=["closed", "open"],
)
def test_the_modules_version_is_read_from_procfs_where_sysfs_does_not_tell_it(
    line: str, tmp_path: Path
) -> None:
    write(tmp_path, "proc/driver/nvidia/version", f"{line}\nGCC version:  gcc version 13.3.0\n")

    assert read_driver(tmp_path, {}).module_version == "590.48.01"


def test_a_jetson_whose_gpu_is_not_there_yet_is_told_to_look_again(tmp_path: Path) -> None:
    write(tmp_path, "proc/sys/kernel/osrelease", "5.15.148-tegra\n")

    found = driver_of(tmp_path)

    assert (found.status, "look again" in found.advice) == ("fail", True)


def test_a_thor_without_its_module_is_told_so(tmp_path: Path) -> None:
    write(tmp_path, "sys/class/devfreq/gpu-gpc-0/cur_freq", "0\n")

    found = driver_of(tmp_path)

    assert (found.status, "gpu-gpc-0" in found.seen) == ("fail", True)


def test_halves_of_two_versions_forbid_the_restart_and_ask_for_a_reboot(tmp_path: Path) -> None:
    well_pc(tmp_path)
    write(tmp_path, "sys/module/nvidia/version", "580.95.05\n")

    found = library_of(tmp_path)

    assert found.status == "fail"
    assert "580.95.05" in found.seen and VERSION in found.seen
    assert "not restart Ollama" in found.advice


def test_a_second_driver_in_another_folder_is_found(tmp_path: Path) -> None:
    well_pc(tmp_path)
    libraries(tmp_path, version="550.54.14", folder="usr/lib64")

    found = library_of(tmp_path)

    assert (found.status, "/usr/lib64/libcuda.so.1 is 550.54.14" in found.seen) == ("fail", True)


def test_two_ways_to_one_file_are_one_library(tmp_path: Path) -> None:
    well_pc(tmp_path)
    link(tmp_path, "usr/lib64", "/usr/lib/x86_64-linux-gnu")
    link(tmp_path, "usr/lib/libcuda.so.1", f"/usr/lib/x86_64-linux-gnu/libcuda.so.{VERSION}")

    names = [library.name for library in read_driver(tmp_path, {}).libraries]

    assert names == ["libnvidia-ml.so.1", "libcuda.so.1"]


def test_a_library_in_a_folder_of_the_engines_own_path_counts(tmp_path: Path) -> None:
    card(tmp_path, driver="nvidia")
    write(tmp_path, "sys/module/nvidia/version", f"{VERSION}\n")
    libraries(tmp_path, folder="opt/driver")

    found = library_of(tmp_path), library_of(tmp_path, LD_LIBRARY_PATH="/nowhere:/opt/driver")

    assert [one.status for one in found] == ["fail", "ok"]


@pytest.mark.parametrize("is_container", [True, False], ids=["in a container", "on a host"])
def test_a_missing_cuda_library_comes_from_the_runtime_or_a_package(
    is_container: bool, tmp_path: Path
) -> None:
    well_pc(tmp_path)
    (tmp_path / "usr/lib/x86_64-linux-gnu/libcuda.so.1").unlink()
    write(tmp_path, ".dockerenv" if is_container else "etc/nothing")

    found = library_of(tmp_path)

    assert found.status == "fail"
    assert ("compute" in found.advice and "runtime nvidia" in found.advice) is is_container


def test_a_missing_library_of_figures_alone_is_a_warning(tmp_path: Path) -> None:
    well_pc(tmp_path)
    container(tmp_path)
    (tmp_path / "usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1").unlink()

    found = library_of(tmp_path)

    assert (found.status, "utility" in found.advice) == ("warn", True)
