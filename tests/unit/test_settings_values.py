"""Guards CONTRACT §2: which spellings of a value are accepted, and what each one means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from arasul_supervisor.settings import SettingsError, load_settings

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20


def effective(variable: str, text: str) -> dict[str, Any]:  # Any: values of every kind
    settings = load_settings({"HOME": "/home/u", variable: text})
    return {name: getattr(settings, name) for name in settings.__slots__}


def problem(variable: str, text: str) -> str:
    with pytest.raises(SettingsError) as raised:
        load_settings({"HOME": "/home/u", variable: text})
    (sentence,) = raised.value.problems
    return sentence


@pytest.mark.parametrize(
    ("text", "is_on"),
    [
        ("yes", True),
        ("On", True),
        ("TRUE", True),
        ("1", True),
        ("no", False),
        ("OFF", False),
        ("False", False),
        ("0", False),
    ],
)
def test_a_switch_takes_the_usual_words_in_any_case(text: str, is_on: bool) -> None:
    assert effective("ARASUL_RESTORE", text)["restore"] is is_on


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90.0),
        ("90s", 90.0),
        ("5m", 300.0),
        ("1h30m", 5400.0),  # 3600 + 30 · 60
        ("500ms", 0.5),
        ("1.5", 1.5),
        ("1.5m", 90.0),
        ("2m 5s", 125.0),
        ("1D", 86400.0),
        ("0", 0.0),
    ],
)
def test_a_duration_takes_the_usual_spellings(text: str, seconds: float) -> None:
    assert effective("ARASUL_STABLE_SECONDS", text)["stable_s"] == seconds


@pytest.mark.parametrize(
    "text", ["5x", "-1", "1e3", "inf", "nan", "m", "5m6", "1.2.3s", "1,5", "٣", "9" * 30]
)
def test_a_duration_that_means_nothing_is_refused(text: str) -> None:
    assert problem("ARASUL_STABLE_SECONDS", text).startswith("ARASUL_STABLE_SECONDS is ")


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("512MiB", 512 * MIB),
        ("50M", 50 * MIB),
        ("50MB", 50 * MIB),  # as supervisord and Docker count
        ("1GiB", 1024 * MIB),
        ("1.5 gib", 1536 * MIB),
        ("64k", 64 * 1024),
        ("1048577", MIB + 1),
    ],
)
def test_a_size_takes_the_usual_spellings(text: str, size_bytes: int) -> None:
    assert effective("ARASUL_LOG_MAX_BYTES", text)["log_max_bytes"] == size_bytes


def test_a_size_of_zero_is_no_limit() -> None:
    assert effective("ARASUL_LOG_MAX_BYTES", "0")["log_max_bytes"] > 1 << 60


@pytest.mark.parametrize("text", ["-5M", "5Mi Mi", "lots", "12", "5PiB"])
def test_a_size_that_means_nothing_or_next_to_nothing_is_refused(text: str) -> None:
    assert "a size" in problem("ARASUL_LOG_MAX_BYTES", text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("-1", -1), ("300", 300), ("5m", 300), ("-1m", -60), ("+90", 90), ("1h30m", 5400)],
)
def test_the_keep_alive_is_whole_seconds_of_either_sign(text: str, seconds: int) -> None:
    assert effective("LLM_KEEP_ALIVE_SECONDS", text)["keep_alive_s"] == seconds


@pytest.mark.parametrize("text", ["1.5", "500ms", "--1", "5x", "for ever"])
def test_a_keep_alive_that_the_engine_would_silently_replace_is_refused(text: str) -> None:
    assert "whole seconds" in problem("LLM_KEEP_ALIVE_SECONDS", text)


@pytest.mark.parametrize(("text", "layers"), [("33", 33), ("0", 0), ("-1", None)])
def test_gpu_layers_are_taken_literally_and_minus_one_means_all_that_fit(
    text: str, layers: int | None
) -> None:
    assert effective("LLM_GPU_LAYERS", text)["gpu_layers"] == layers


@pytest.mark.parametrize("text", ["-2", "all", "3.5", "33 layers", "99999999999"])
def test_gpu_layers_that_are_no_number_are_refused(text: str) -> None:
    assert "LLM_GPU_LAYERS=33" in problem("LLM_GPU_LAYERS", text)


@pytest.mark.parametrize(("text", "fraction"), [("0.8", 0.8), ("1", 1.0), (".5", 0.5), ("1.0", 1.0)])
def test_the_memory_share_lies_between_zero_and_one(text: str, fraction: float) -> None:
    assert effective("OLLAMA_GPU_MEMORY_FRACTION", text)["gpu_memory_fraction"] == fraction


@pytest.mark.parametrize("text", ["0", "0.0", "1.01", "80%", "-0.5", "nan"])
def test_a_memory_share_outside_is_refused(text: str) -> None:
    assert "above 0 and at most 1" in problem("OLLAMA_GPU_MEMORY_FRACTION", text)


@pytest.mark.parametrize(
    "name",
    [
        "qwen3:14b-q8",
        "tiny",
        "namespace/model:tag",
        "hf.co/bartowski/Llama-3.2-3B-Instruct-GGUF:Q4_K_M",
        "registry.example.com:5000/ns/model:tag",
        "m" * 80,
    ],
)
def test_a_model_name_of_every_valid_form_is_taken(name: str) -> None:
    assert effective("LLM_MODEL", name)["default_model"] == name


@pytest.mark.parametrize("name", ["a b", "../etc/passwd", "model:", ":tag", "a/b/c/d", "model:a:b", "ü"])
def test_what_is_no_model_name_is_refused(name: str) -> None:
    assert "no model name" in problem("LLM_MODEL", name)


def test_a_model_name_over_255_characters_is_too_long() -> None:
    assert "256 characters is too long" in problem("LLM_MODEL", "m" * 256)


def test_origins_for_the_engine_lose_what_would_make_it_panic() -> None:
    assert (
        effective("OLLAMA_ORIGINS", " http://a , https://*.b.example,")["origins"]
        == "http://a,https://*.b.example"
    )


@pytest.mark.parametrize("text", ["example.com", "http://*.a.*", "null", "http://a,b"])
def test_origins_at_which_the_engine_panics_are_refused(text: str) -> None:
    assert "panic" in problem("OLLAMA_ORIGINS", text)


def test_browser_origins_are_compared_as_browsers_send_them() -> None:
    assert effective("ARASUL_ORIGINS", "HTTP://Dash.local:3000/, https://[::1]:1")["allowed_origins"] == (
        "http://dash.local:3000",
        "https://[::1]:1",
    )


@pytest.mark.parametrize("text", ["dash.local", "http://", "http://a/b", "http://a b"])
def test_a_browser_origin_that_no_browser_sends_is_refused(text: str) -> None:
    assert "no origin" in problem("ARASUL_ORIGINS", text)


@pytest.mark.parametrize(
    "variable", ["ARASUL_LOG_FILE", "ARASUL_STATE_DIR", "ARASUL_SYSROOT", "ARASUL_OLLAMA"]
)
def test_a_relative_path_is_refused(variable: str) -> None:
    assert "must be absolute" in problem(variable, "var/x")


def test_a_log_file_that_rotation_could_not_rename_is_refused(tmp_path: Path) -> None:
    assert "no regular file" in problem("ARASUL_LOG_FILE", "/dev/null")
    assert "no regular file" in problem("ARASUL_LOG_FILE", str(tmp_path))


def test_a_state_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()

    assert "no folder" in problem("ARASUL_STATE_DIR", str(file))


def test_an_engine_must_be_there_and_executable(tmp_path: Path) -> None:
    engine = tmp_path / "ollama"
    assert "no such file" in problem("ARASUL_OLLAMA", str(engine))

    engine.touch(mode=0o644)
    assert "cannot be executed" in problem("ARASUL_OLLAMA", str(engine))

    engine.chmod(0o755)
    assert effective("ARASUL_OLLAMA", str(engine))["engine_binary"] == engine


@pytest.mark.parametrize("variable", ["ARASUL_SYSROOT", "ARASUL_OLLAMA"])
def test_a_path_that_no_system_call_takes_is_refused_like_any_other(variable: str) -> None:
    assert problem(variable, "/" + "x" * 5000).startswith(f"{variable} is '/xxx")
