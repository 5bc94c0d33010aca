"""Guards CONTRACT §2, last paragraph, and facts/ollama.md §5: what the engine gets, per generation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from arasul_supervisor.ollama import environment
from arasul_supervisor.ollama.environment import (
    BadEngineSetting,
    EngineEnvironment,
    GpuMemory,
    engine_command,
    engine_environment,
    engine_setting_problems,
)
from arasul_supervisor.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

GIB = 1 << 30
NEW, OLD = (0, 34, 4), (0, 24, 0)
ONE_GPU = (GpuMemory(total_bytes=16 * GIB, available_bytes=16 * GIB),)
HOME = {"HOME": "/home/u"}


def derive(
    environ: Mapping[str, str] | None = None,
    version: tuple[int, int, int] | None = NEW,
    gpus: Sequence[GpuMemory] = (),
) -> EngineEnvironment:
    given = {**HOME, **(environ or {})}
    return engine_environment(load_settings(given), given, version=version, gpus=gpus, marker="inst:nonce")


def test_the_command_is_serve() -> None:
    assert engine_command(Path("/usr/bin/ollama")) == ("/usr/bin/ollama", "serve")


@pytest.mark.parametrize("version", [NEW, OLD, None])
def test_on_a_box_without_a_gpu_the_engine_gets_the_plain_settings(
    version: tuple[int, int, int] | None,
) -> None:
    engine = derive(version=version)

    assert engine.variables == {
        "HOME": "/home/u",
        "ARASUL_MARKER": "inst:nonce",
        "OLLAMA_HOST": "0.0.0.0:11434",
        "OLLAMA_ORIGINS": "*",
        "OLLAMA_CONTEXT_LENGTH": "8192",
        "OLLAMA_KEEP_ALIVE": "300s",
        "OLLAMA_NOPRUNE": "1",
        "OLLAMA_NO_CLOUD": "1",
    }
    assert engine.notes == ()


def test_the_host_is_always_spelled_out() -> None:
    assert derive({"OLLAMA_HOST": "http://[::]:9999/"}).variables["OLLAMA_HOST"] == "[::]:9999"


@pytest.mark.parametrize(("text", "passed"), [("0", "0s"), ("-1", "-1s"), ("1h30m", "5400s")])
def test_the_keep_alive_has_a_form_that_every_ollama_reads(text: str, passed: str) -> None:
    assert derive({"LLM_KEEP_ALIVE_SECONDS": text}).variables["OLLAMA_KEEP_ALIVE"] == passed


def test_every_other_variable_reaches_the_engine_unchanged() -> None:
    others = {
        "PATH": "/bin",
        "HTTPS_PROXY": "http://u:p@proxy:3128",
        "LD_LIBRARY_PATH": " /x ",
        "OLLAMA_MODELS": "/models",
        "LANG": "",
        "LLAMA_ARG_CACHE_RAM": "0",
    }

    engine = derive(others)

    assert {name: engine.variables[name] for name in others} == others
    assert "proxy" not in repr(engine)


@pytest.mark.parametrize(
    "name",
    ["ARASUL_PORT", "ARASUL_URL", "LLM_MODEL", "NOTIFY_SOCKET", "WATCHDOG_USEC", "LISTEN_FDS", "SUPERVISOR_ENABLED",
     "VIRTUAL_ENV", "PYTHONPATH", "PYTHON_VERSION"],
)  # fmt: skip
def test_what_is_meant_for_the_daemon_is_held_back(name: str) -> None:
    assert name not in derive({name: "11436"}).variables


def test_a_marker_of_an_outer_daemon_is_replaced_by_ours() -> None:
    assert derive({"ARASUL_MARKER": "other"}).variables["ARASUL_MARKER"] == "inst:nonce"


@pytest.mark.parametrize("blank", ["", "  ", '""'])
def test_a_blank_variable_of_ollama_is_unset(blank: str) -> None:
    engine = derive({"OLLAMA_MODELS": blank, "OLLAMA_CONTEXT_LENGTH": blank, "OLLAMA_NOPRUNE": blank})

    assert "OLLAMA_MODELS" not in engine.variables
    assert engine.variables["OLLAMA_CONTEXT_LENGTH"] == "8192"
    assert engine.variables["OLLAMA_NOPRUNE"] == "1"


def test_a_blank_variable_of_llama_server_is_unset_since_it_would_fail_every_load() -> None:
    assert "LLAMA_ARG_N_GPU_LAYERS" not in derive({"LLAMA_ARG_N_GPU_LAYERS": ""}).variables


@pytest.mark.parametrize(
    ("variable", "value", "beaten"),
    [
        ("OLLAMA_CONTEXT_LENGTH", "4096", "LLM_CONTEXT_LENGTH"),
        ("OLLAMA_KEEP_ALIVE", "10m", "LLM_KEEP_ALIVE_SECONDS"),
        ("LLAMA_ARG_FIT_TARGET", "2048", "OLLAMA_GPU_MEMORY_FRACTION"),
        ("LLAMA_ARG_N_GPU_LAYERS", "all", "LLM_GPU_LAYERS"),
        ("OLLAMA_NOPRUNE", "0", "unfinished downloads"),
        ("OLLAMA_NO_CLOUD", "false", "on this box"),
    ],
)
def test_what_the_user_sets_for_the_engine_beats_what_we_derive_and_is_noted(
    variable: str, value: str, beaten: str
) -> None:
    engine = derive({variable: value, "LLM_GPU_LAYERS": "33"}, gpus=ONE_GPU)

    assert engine.variables[variable] == value
    assert variable not in engine.derived
    assert [note for note in engine.notes if note.startswith(f"{variable} is set") and beaten in note]


@pytest.mark.parametrize(
    ("environ", "version", "options"),
    [
        pytest.param({"LLM_GPU_LAYERS": "20"}, (0, 24, 0), {"num_gpu": 20}, id="old engine"),
        pytest.param({"LLM_GPU_LAYERS": "20"}, None, {"num_gpu": 20}, id="unknown engine"),
        pytest.param({"LLM_GPU_LAYERS": "20"}, (0, 34, 4), {}, id="new engine, which has a variable for it"),
        pytest.param({}, (0, 24, 0), {}, id="all that fit"),
    ],
)
def test_loads_made_by_us_carry_the_layers_where_the_engine_has_no_variable_for_them(
    environ: dict[str, str], version: tuple[int, int, int] | None, options: dict[str, int]
) -> None:
    assert environment.load_options(load_settings({"HOME": "/h", **environ}), version) == options


def test_layers_are_told_to_llama_server() -> None:
    assert derive({"LLM_GPU_LAYERS": "33"}).derived["LLAMA_ARG_N_GPU_LAYERS"] == "33"


@pytest.mark.parametrize("version", [OLD, (0, 29, 9), None])
def test_layers_on_an_old_engine_are_only_noted(version: tuple[int, int, int] | None) -> None:
    engine = derive({"LLM_GPU_LAYERS": "33"}, version=version)

    assert "LLAMA_ARG_N_GPU_LAYERS" not in engine.variables
    assert engine.notes == (
        "Ollama 0.29 and older apply LLM_GPU_LAYERS=33 only to loads made by this daemon.",
    )


@pytest.mark.parametrize(
    ("total_gib", "available_gib", "fraction", "mib"),
    [
        (16, 16, "0.8", "3277"),  # 16384 − 0.8 · 16384 = 3276.8
        (16, 14, "0.8", "1229"),  # 14336 − 13107.2 = 1228.8
        (16, 10, "0.8", "512"),  # others hold more than the share leaves: the least that is kept
        (16, 16, "1", "512"),
        (24, 24, "0.5", "12288"),
    ],
)
def test_a_new_engine_leaves_the_rest_of_the_share_free_in_mib(
    total_gib: int, available_gib: int, fraction: str, mib: str
) -> None:
    gpus = [GpuMemory(total_gib * GIB, available_gib * GIB)]

    engine = derive({"OLLAMA_GPU_MEMORY_FRACTION": fraction}, gpus=gpus)

    assert engine.derived["LLAMA_ARG_FIT_TARGET"] == mib
    assert "OLLAMA_GPU_OVERHEAD" not in engine.variables


def test_a_new_engine_gets_one_value_for_each_gpu() -> None:
    gpus = [GpuMemory(16 * GIB, 16 * GIB), GpuMemory(8 * GIB, 8 * GIB)]

    assert derive(gpus=gpus).derived["LLAMA_ARG_FIT_TARGET"] == "3277,1638"  # 0.2 · 8192 = 1638.4


def test_of_selected_gpus_nobody_knows_the_order_so_the_largest_part_counts_for_each() -> None:
    gpus = [GpuMemory(16 * GIB, 16 * GIB), GpuMemory(8 * GIB, 8 * GIB)]

    assert derive({"CUDA_VISIBLE_DEVICES": "1"}, gpus=gpus).derived["LLAMA_ARG_FIT_TARGET"] == "3277"


@pytest.mark.parametrize("selection", ["", "-1"])
@pytest.mark.parametrize("version", [NEW, OLD])
def test_nothing_is_set_when_every_gpu_is_hidden(selection: str, version: tuple[int, int, int]) -> None:
    engine = derive({"CUDA_VISIBLE_DEVICES": selection}, version=version, gpus=ONE_GPU)

    assert engine.variables["CUDA_VISIBLE_DEVICES"] == selection
    assert not {"LLAMA_ARG_FIT_TARGET", "OLLAMA_GPU_OVERHEAD"} & set(engine.variables)
    assert any("hides every GPU" in note for note in engine.notes)


def test_an_old_engine_gets_the_bytes_to_leave_free() -> None:
    engine = derive(version=OLD, gpus=ONE_GPU)

    assert engine.derived["OLLAMA_GPU_OVERHEAD"] == "3435973837"  # 0.2 · 17179869184 = 3435973836.8
    assert "LLAMA_ARG_FIT_TARGET" not in engine.variables


def test_an_old_engines_one_value_stays_below_the_smallest_gpu() -> None:
    gpus = [GpuMemory(48 * GIB, 48 * GIB), GpuMemory(4 * GIB, 4 * GIB)]

    engine = derive(version=OLD, gpus=gpus)

    # 0.2 · 48 GiB = 9.6 GiB is more than the smaller one has: 4 GiB − 512 MiB
    assert engine.derived["OLLAMA_GPU_OVERHEAD"] == str(4 * GIB - (512 << 20))
    assert "all that the smallest one can spare" in engine.notes[0]


def test_an_old_engine_gets_nothing_when_a_gpu_is_too_small_for_any() -> None:
    engine = derive(version=OLD, gpus=[GpuMemory(GIB // 4, GIB // 4)])

    assert "OLLAMA_GPU_OVERHEAD" not in engine.variables
    assert "sets nothing" in engine.notes[0]


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("LLAMA_ARG_N_GPU_LAYERS", "all of them"),
        ("LLAMA_ARG_N_GPU_LAYERS", "99999999999"),
        ("LLAMA_ARG_N_GPU_LAYERS", "33x"),
        ("LLAMA_ARG_FIT_TARGET", "2GiB"),
        ("LLAMA_ARG_FIT_TARGET", "2048,"),
        ("LLAMA_ARG_FIT_TARGET", "-1"),
        ("LLAMA_ARG_CACHE_RAM", "off"),
        ("LLAMA_ARG_N_CPU_MOE", "-1"),
        ("LLAMA_ARG_THREADS", "1.5"),
        ("LLAMA_ARG_ROPE_SCALE", "two"),
        ("LLAMA_ARG_TENSOR_SPLIT", "3:1"),
        ("LLAMA_ARG_FIT", "yes"),
        ("LLAMA_ARG_FIT", "On"),
        ("LLAMA_ARG_FLASH_ATTN", "maybe"),
        ("OLLAMA_CONTEXT_LENGTH", "8k"),
        ("OLLAMA_NUM_PARALLEL", "-1"),
        ("OLLAMA_KEEP_ALIVE", "5x"),
        ("OLLAMA_KEEP_ALIVE", "1.5"),
        ("OLLAMA_LOAD_TIMEOUT", "1d"),
        ("OLLAMA_NOPRUNE", "off"),
        ("OLLAMA_NO_CLOUD", "No"),
    ],
)
def test_a_value_that_the_engine_would_misread_is_refused_before_the_spawn(variable: str, value: str) -> None:
    with pytest.raises(BadEngineSetting) as raised:
        derive({variable: value})

    assert raised.value.code == "bad_setting"
    (problem,) = raised.value.problems
    assert problem.startswith(f"{variable} is '{value}', which the engine would misread: allowed is ")
    assert f"for example {variable}=" in problem


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("LLAMA_ARG_N_GPU_LAYERS", "auto"),
        ("LLAMA_ARG_N_GPU_LAYERS", "-1"),
        ("LLAMA_ARG_FIT_TARGET", "1024, 2048"),
        ("LLAMA_ARG_CACHE_RAM", "-1"),
        ("LLAMA_ARG_ROPE_FREQ_BASE", "1e6"),
        ("LLAMA_ARG_TENSOR_SPLIT", "3,1.5"),
        ("LLAMA_ARG_FIT", "off"),
        ("LLAMA_ARG_FLASH_ATTN", "auto"),
        ("LLAMA_ARG_CACHE_TYPE_K", "a-type-of-tomorrow"),
        ("OLLAMA_CONTEXT_LENGTH", '"4096"'),
        ("OLLAMA_KEEP_ALIVE", "-1"),
        ("OLLAMA_KEEP_ALIVE", "1h30m"),
        ("OLLAMA_NOPRUNE", "False"),
        ("OLLAMA_FLASH_ATTENTION", "yes"),
    ],
)
def test_a_value_that_the_engine_reads_as_meant_is_passed_on(variable: str, value: str) -> None:
    assert derive({variable: value}).variables[variable] == value


def test_all_misread_values_are_told_at_once() -> None:
    problems = engine_setting_problems({**HOME, "OLLAMA_KEEP_ALIVE": "5x", "LLAMA_ARG_FIT": "yes"})

    assert len(problems) == 2


def test_without_home_the_engine_gets_the_passwd_entrys_and_it_is_noted() -> None:
    environ = {"HOME": " "}

    engine = engine_environment(load_settings(environ), environ, version=NEW, gpus=(), marker="m")

    assert engine.variables["HOME"].startswith("/")
    assert engine.notes == (
        f"HOME is not set; the engine gets {engine.variables['HOME']}, from the passwd entry.",
    )


def test_without_home_and_passwd_entry_the_user_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "home_folder", lambda environ: (None, "unknown"))

    (problem,) = engine_setting_problems({})

    assert "set HOME" in problem


@pytest.mark.parametrize(
    ("variable", "value", "surprise"),
    [
        ("LLAMA_ARG_ENDPOINT_SLOTS", "0", "stuck model"),
        ("OLLAMA_DEBUG_LOG_REQUESTS", "1", "prompts"),
        ("OLLAMA_DEBUG", "2", "prompts"),
    ],
)
def test_what_is_read_as_meant_and_may_surprise_is_noted(variable: str, value: str, surprise: str) -> None:
    (note,) = derive({variable: value}).notes

    assert note.startswith(variable)
    assert surprise in note
