"""Guards CONTRACT §2 for texts that nobody thought of: settings load or refuse, and never lie or crash."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from arasul_supervisor.ollama.engine_variables import engine_variable_problems
from arasul_supervisor.ollama.environment import GpuMemory, engine_environment, engine_setting_problems
from arasul_supervisor.settings import Settings, SettingsError, describe, load_settings, warnings_for
from arasul_supervisor.settings.fields import FIELDS

HOME = {"HOME": "/home/u"}
VARIABLES = [field.variable for field in FIELDS]
# a mixture of anything and of what looks right at first sight
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40) | st.from_regex(
    r"[-+]?[0-9.:/\[\]hmsdkKMiB, =*x]{0,12}", fullmatch=True
)
ENVIRONS = st.dictionaries(st.sampled_from(VARIABLES), TEXTS, max_size=6)


@given(environ=ENVIRONS)
@example(environ={"ARASUL_LOG_FILE": "/\ud7ff"})
@example(environ={"OLLAMA_HOST": "[::1%eth0]:1"})
def test_any_text_gives_settings_or_one_sentence_for_each_wrong_variable(environ: dict[str, str]) -> None:
    told = _problems_or_none(environ)

    assert told is None or (
        len(told) == len(set(told)) and all(_names_a_given_variable(s, environ) for s in told)
    )


@given(environ=ENVIRONS)
def test_a_wrong_variable_is_told_beside_any_others(environ: dict[str, str]) -> None:
    told = _problems_or_none({**environ, "ARASUL_HEAL": "?"})

    assert told is not None
    assert sum(sentence.startswith("ARASUL_HEAL is '?'") for sentence in told) == 1


@given(environ=ENVIRONS)
def test_what_is_shown_reads_back_as_the_same_setting(environ: dict[str, str]) -> None:
    settings = _settings_of(environ)

    shown = {row.variable: row.value or "" for row in describe(settings, {})}

    again = load_settings({**HOME, **{name: text for name, text in shown.items() if name not in _LOOKED_UP}})
    assert _comparable(again) == _comparable(settings)


@given(milliseconds=st.integers(0, 10**11))
def test_a_duration_means_the_same_in_any_unit(milliseconds: int) -> None:
    bare = load_settings({**HOME, "ARASUL_STABLE_SECONDS": f"{milliseconds / 1000:.3f}"})
    with_unit = load_settings({**HOME, "ARASUL_STABLE_SECONDS": f"{milliseconds}ms"})

    assert with_unit.stable_s == pytest.approx(bare.stable_s)


@given(
    environ=st.dictionaries(
        st.from_regex(r"(ARASUL_|LLM_|OLLAMA_|LLAMA_ARG_|PYTHON|WATCHDOG_|X)[A-Z_]{0,8}", fullmatch=True), TEXTS
    ),
    version=st.none() | st.tuples(st.integers(0, 1), st.integers(0, 40), st.integers(0, 9)),
    gpus=st.lists(
        st.builds(GpuMemory, st.integers(1, 1 << 42), st.integers(0, 1 << 42)), max_size=4
    ),
)  # fmt: skip
def test_whatever_surrounds_it_the_engine_gets_no_variable_of_ours_and_none_that_it_would_misread(
    environ: dict[str, str], version: tuple[int, int, int] | None, gpus: list[GpuMemory]
) -> None:
    settings = load_settings(HOME)
    fit = {name: text for name, text in environ.items() if not list(engine_variable_problems({name: text}))}

    engine = engine_environment(settings, {**HOME, **fit}, version=version, gpus=gpus, marker="m")

    ours = [name for name in engine.variables if name.startswith(("ARASUL_", "LLM_", "PYTHON", "WATCHDOG_"))]
    assert ours == ["ARASUL_MARKER"]
    assert engine_setting_problems(engine.variables) == ()


@given(
    gpus=st.lists(st.integers(0, 1 << 42).map(lambda total: GpuMemory(total, total)), min_size=1, max_size=4)
)
def test_what_an_old_engine_leaves_free_never_reaches_the_smallest_gpu(gpus: list[GpuMemory]) -> None:
    engine = engine_environment(load_settings(HOME), HOME, version=None, gpus=gpus, marker="m")

    assert int(engine.derived.get("OLLAMA_GPU_OVERHEAD", "0")) <= min(gpu.total_bytes for gpu in gpus)


@given(name=TEXTS, text=TEXTS)
def test_a_warning_never_shows_a_value(name: str, text: str) -> None:
    warnings = warnings_for({f"ARASUL_{name}": f"hunter2{text}"})

    assert "hunter2" not in "".join(warnings).replace(name, "")


_LOOKED_UP = {"ARASUL_OLLAMA", "ARASUL_LOG_FILE", "ARASUL_STATE_DIR", "ARASUL_SYSROOT"}


def _problems_or_none(environ: dict[str, str]) -> tuple[str, ...] | None:
    try:
        load_settings({**HOME, **environ})
    except SettingsError as error:
        return error.problems
    return None


def _settings_of(environ: dict[str, str]) -> Settings:
    """The settings of those variables that are right by themselves; the defaults where two of them disagree."""
    right = {name: text for name, text in environ.items() if _problems_or_none({name: text}) is None}
    return load_settings({**HOME, **(right if _problems_or_none(right) is None else {})})


def _names_a_given_variable(sentence: str, environ: dict[str, str]) -> bool:
    return sentence.split(" is ")[0] in {*environ, "ARASUL_PORT"} and sentence.endswith(".")


def _comparable(settings: Settings) -> dict[str, object]:
    left_out = {"origin_of", "engine_binary", "log_file", "state_dir", "sysroot"}
    return {name: getattr(settings, name) for name in settings.__slots__ if name not in left_out}
