"""Guards the doctor's checks of the engine: its libraries, its JetPack, its variables, and our settings."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from arasul_supervisor.telemetry.gpu.readings import GpuReading
from arasul_supervisor.telemetry.visibility.checks_engine import check_engine, check_jetpack
from arasul_supervisor.telemetry.visibility.checks_environment import check_environment, check_settings
from arasul_supervisor.telemetry.visibility.engine_files import read_engine_files
from arasul_supervisor.telemetry.visibility.facts import read_board, read_driver
from tests.engine.visibility_ground import engine, well_orin, well_pc, write

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from arasul_supervisor.telemetry.visibility.engine_files import EngineFiles
    from arasul_supervisor.telemetry.visibility.finding import Finding

NEW = (0, 34, 4)
GIB = 2**30
CARDS = (
    GpuReading(index=0, uuid="GPU-aaaa1111-2222", memory_total_bytes=24 * GIB),
    GpuReading(index=1, uuid="GPU-bbbb1111-2222", memory_total_bytes=80 * GIB),
)


def files(folder: Path, *backends: str, version: tuple[int, int, int] | None = NEW) -> EngineFiles:
    return read_engine_files(engine(folder / "ollama", *backends), version)


def engine_of(root: Path, files: EngineFiles) -> Finding:
    return check_engine(files, read_driver(root, {}))


def jetpack_of(root: Path, *backends: str, **environ: str) -> Finding:
    return check_jetpack(read_driver(root, {}), read_board(root), files(root, *backends), environ)


def environment_of(
    root: Path, files: EngineFiles, readings: Sequence[GpuReading] = (), **environ: str
) -> tuple[Finding, ...]:
    return check_environment(environ, read_driver(root, {}), files, readings)


# libraries


def test_an_engine_with_cuda_beside_it_is_well(tmp_path: Path) -> None:
    well_pc(tmp_path)

    found = engine_of(tmp_path, files(tmp_path, "cuda_v12", "cuda_v13"))

    assert (found.status, "cuda_v12, cuda_v13" in found.seen) == ("ok", True)


def test_a_linked_binary_is_looked_at_where_it_lies(tmp_path: Path) -> None:
    binary = engine(tmp_path / "real", "cuda_v12")
    link = tmp_path / "bin/ollama"
    link.parent.mkdir()
    link.symlink_to(binary)

    assert read_engine_files(link, NEW).backends == {"cuda_v12"}


def test_a_library_beside_all_the_folders_counts(tmp_path: Path) -> None:
    binary = engine(tmp_path)
    write(tmp_path, "lib/ollama/libggml-cuda.so")

    assert read_engine_files(binary, NEW).has_cuda


def test_no_engine_is_a_failure_on_every_box(tmp_path: Path) -> None:
    assert engine_of(tmp_path, read_engine_files(None, None)).status == "fail"


def test_a_new_engine_without_llama_server_loads_nothing(tmp_path: Path) -> None:
    binary = engine(tmp_path, "cuda_v12", has_llama_server=False)

    found = engine_of(tmp_path, read_engine_files(binary, NEW))

    assert (found.status, "llama-server" in found.seen) == ("fail", True)


def test_an_old_engine_needs_no_llama_server(tmp_path: Path) -> None:
    binary = engine(well_pc(tmp_path), "cuda_v12", has_llama_server=False)

    assert engine_of(tmp_path, read_engine_files(binary, (0, 24, 0))).status == "ok"


@pytest.mark.parametrize(
    ("backends", "status"), [((), "fail"), (("vulkan",), "warn")], ids=["none", "vulkan alone"]
)
def test_an_engine_without_cuda_does_not_see_the_card(
    backends: tuple[str, ...], status: str, tmp_path: Path
) -> None:
    well_pc(tmp_path)

    assert engine_of(tmp_path, files(tmp_path, *backends)).status == status


def test_a_box_without_a_gpu_needs_no_cuda(tmp_path: Path) -> None:
    assert engine_of(tmp_path, files(tmp_path)).status == "ok"


@pytest.mark.parametrize(("driver", "status"), [("570.10.1", "fail"), ("580.95.05", "ok")])
def test_cuda_13_alone_needs_a_driver_that_serves_it(driver: str, status: str, tmp_path: Path) -> None:
    write(well_pc(tmp_path), "sys/module/nvidia/version", driver)

    assert engine_of(tmp_path, files(tmp_path, "cuda_v13")).status == status


# JetPack


def test_a_pc_has_no_jetpack(tmp_path: Path) -> None:
    assert jetpack_of(well_pc(tmp_path), "cuda_v12").status == "skip"


def test_an_orin_with_its_library_is_well(tmp_path: Path) -> None:
    found = jetpack_of(well_orin(tmp_path), "cuda_jetpack6", "cuda_v13")

    assert (found.status, "cuda_jetpack6" in found.seen) == ("ok", True)


def test_an_orin_without_its_library_names_the_archive(tmp_path: Path) -> None:
    found = jetpack_of(well_orin(tmp_path), "cuda_v12", "cuda_v13")

    assert (found.status, "ollama-linux-arm64-jetpack6" in found.advice) == ("fail", True)


def test_a_container_that_hides_the_release_needs_the_variable(tmp_path: Path) -> None:
    well_orin(tmp_path)
    (tmp_path / "etc/nv_tegra_release").unlink()

    without = jetpack_of(tmp_path, "cuda_jetpack6")
    with_it = jetpack_of(tmp_path, "cuda_jetpack6", JETSON_JETPACK="6.2")

    assert (without.status, "JETSON_JETPACK=6" in without.advice) == ("fail", True)
    assert with_it.status == "ok"


@pytest.mark.parametrize(
    ("given", "kernel"),
    [("5", "5.15.148-tegra"), ("6", "5.10.216-tegra"), ("6", "6.8.12-1021-tegra"), ("7", "5.15.148-tegra")],
    ids=["5 on 6", "6 on 5", "6 on 7", "7 on 6"],
)
def test_the_jetpack_of_another_board_chooses_the_wrong_library(
    given: str, kernel: str, tmp_path: Path
) -> None:
    well_orin(tmp_path, kernel=kernel)

    found = jetpack_of(tmp_path, "cuda_jetpack5", "cuda_jetpack6", "cuda_v13", JETSON_JETPACK=given)

    assert (found.status, found.advice != "") == ("fail", True)


def test_an_image_with_the_release_file_of_another_board_is_found_out(tmp_path: Path) -> None:
    write(well_orin(tmp_path), "etc/nv_tegra_release", "# R35 (release), REVISION: 4.1\n")

    found = jetpack_of(tmp_path, "cuda_jetpack5", "cuda_jetpack6")

    assert (found.status, "R35" in found.seen) == ("fail", True)


def test_a_jetpack_that_is_no_number_is_refused(tmp_path: Path) -> None:
    found = jetpack_of(well_orin(tmp_path), "cuda_jetpack6", JETSON_JETPACK="r36")

    assert (found.status, "Set it to 6" in found.advice) == ("fail", True)


def test_jetpack_7_takes_the_common_library(tmp_path: Path) -> None:
    well_orin(tmp_path, kernel="6.8.12-1021-tegra")
    write(tmp_path, "etc/nv_tegra_release", "# R39 (release), REVISION: 2.0\n")

    assert [jetpack_of(tmp_path, folder).status for folder in ("cuda_v13",)] == ["ok"]


# variables


def test_a_clean_environment_is_well(tmp_path: Path) -> None:
    found = environment_of(well_pc(tmp_path), files(tmp_path, "cuda_v12"), CARDS, PATH="/bin")

    assert [one.status for one in found] == ["ok"]


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("CUDA_VISIBLE_DEVICES", ""),
        ("CUDA_VISIBLE_DEVICES", "-1"),
        ("CUDA_VISIBLE_DEVICES", "none"),
        ("CUDA_VISIBLE_DEVICES", "2,0"),
        ("CUDA_VISIBLE_DEVICES", "GPU-cccc"),
        ("LLAMA_ARG_N_GPU_LAYERS", "0"),
        ("LLAMA_ARG_DEVICE", "none"),
        ("OLLAMA_LLM_LIBRARY", "cuda_v11"),
        ("OLLAMA_LLM_LIBRARY", "cpu"),
        ("LLAMA_ARG_FIT_TARGET", "512,24576"),
    ],
)
def test_a_variable_that_hides_the_card_is_named(variable: str, value: str, tmp_path: Path) -> None:
    found = environment_of(well_pc(tmp_path), files(tmp_path, "cuda_v12"), CARDS, **{variable: value})

    assert [(one.status, variable in one.seen) for one in found] == [("fail", True)]


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("CUDA_VISIBLE_DEVICES", "1"),
        ("CUDA_VISIBLE_DEVICES", "GPU-bbbb"),
        ("CUDA_VISIBLE_DEVICES", "MIG-1234"),
        ("LLAMA_ARG_N_GPU_LAYERS", "33"),
        ("OLLAMA_LLM_LIBRARY", "'cuda_v12'"),
        ("OLLAMA_VULKAN", "0"),
        ("OLLAMA_IGPU_ENABLE", "0"),
        ("LLAMA_ARG_FIT_TARGET", "2048"),
    ],
)
def test_a_variable_that_leaves_the_card_alone_is_well(variable: str, value: str, tmp_path: Path) -> None:
    found = environment_of(well_pc(tmp_path), files(tmp_path, "cuda_v12"), CARDS, **{variable: value})

    assert [one.status for one in found] == ["ok"]


def test_without_nvml_no_index_is_doubted(tmp_path: Path) -> None:
    found = environment_of(well_pc(tmp_path), files(tmp_path, "cuda_v12"), CUDA_VISIBLE_DEVICES="7")

    assert [one.status for one in found] == ["ok"]


@pytest.mark.parametrize(("version", "status"), [(NEW, "fail"), ((0, 24, 0), "ok")], ids=["new", "old"])
def test_the_gpu_of_a_jetson_is_an_integrated_one(
    version: tuple[int, int, int], status: str, tmp_path: Path
) -> None:
    root = well_orin(tmp_path)

    found = environment_of(root, files(root, "cuda_jetpack6", version=version), OLLAMA_IGPU_ENABLE="false")

    assert [one.status for one in found] == [status]


@pytest.mark.parametrize(
    "environ", [{"OLLAMA_VULKAN": "0"}, {"GGML_VK_VISIBLE_DEVICES": "-1"}], ids=["the switch", "the list"]
)
def test_vulkan_matters_where_it_is_the_only_way(environ: dict[str, str], tmp_path: Path) -> None:
    root = well_pc(tmp_path)

    found = environment_of(root, files(root, "vulkan"), (), **environ)

    assert [one.status for one in found] == ["fail"]


def test_an_old_engine_is_told_its_overhead_in_bytes(tmp_path: Path) -> None:
    root = well_pc(tmp_path)
    old = replace(files(root, "cuda_v12"), version=(0, 24, 0))

    found = environment_of(root, old, CARDS, OLLAMA_GPU_OVERHEAD=str(24 * GIB), LLAMA_ARG_FIT_TARGET="99999")

    assert [(one.status, "OLLAMA_GPU_OVERHEAD" in one.seen) for one in found] == [("fail", True)]


def test_a_box_without_a_gpu_has_nothing_to_hide(tmp_path: Path) -> None:
    found = environment_of(tmp_path, files(tmp_path), CUDA_VISIBLE_DEVICES="-1")

    assert [one.status for one in found] == ["ok"]


# settings


@pytest.mark.parametrize(
    ("gpu", "gpu_layers", "status"),
    [
        ("auto", None, "ok"),
        ("auto", 33, "ok"),
        ("auto", 0, "fail"),
        ("none", None, "warn"),
        ("nvml", None, "ok"),
        ("tegra", None, "warn"),
    ],
    ids=[
        "default",
        "some layers",
        "no layer",
        "no figures",
        "the card's source",
        "the source of another board",
    ],
)
def test_settings_of_ours_that_leave_the_gpu_out(
    gpu: str, gpu_layers: int | None, status: str, tmp_path: Path
) -> None:
    driver = read_driver(well_pc(tmp_path), {})

    assert check_settings(driver, gpu=gpu, gpu_layers=gpu_layers).status == status


@pytest.mark.parametrize("make", [well_orin, lambda root: root], ids=["a Jetson", "no GPU at all"])
def test_the_source_of_a_jetson_alarms_nobody_where_there_is_no_card(
    make: Callable[[Path], Path], tmp_path: Path
) -> None:
    assert check_settings(read_driver(make(tmp_path), {}), gpu="tegra", gpu_layers=None).status == "ok"
