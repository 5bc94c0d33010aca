"""Guards CONTRACT §2: the defaults, all faults at once, blank means unset, where each value came from."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import get_origin, get_type_hints

import pytest

from arasul_supervisor.settings import (
    Settings,
    SettingsError,
    describe,
    effective,
    load_settings,
    places,
    warnings_for,
)
from arasul_supervisor.settings.fields import FIELDS

HOME = {"HOME": "/home/u"}
NO_ENGINE = Path("/nonexistent/ollama")


def test_the_defaults_are_those_of_the_contract() -> None:
    settings = load_settings({**HOME, "PATH": "/nonexistent"})

    shown = {row.variable: row.value for row in describe(settings, {})}
    places_and_engine = {"ARASUL_OLLAMA", "ARASUL_LOG_FILE", "ARASUL_STATE_DIR"}
    assert {name: value for name, value in shown.items() if name not in places_and_engine} == {
        "LLM_MODEL": "qwen3:14b-q8",
        "LLM_CONTEXT_LENGTH": "8192",
        "LLM_GPU_LAYERS": None,
        "LLM_KEEP_ALIVE_SECONDS": "300s",
        "OLLAMA_STARTUP_TIMEOUT": "120s",
        "OLLAMA_HOST": "0.0.0.0:11434",
        "OLLAMA_ORIGINS": "*",
        "OLLAMA_GPU_MEMORY_FRACTION": "0.8",
        "ARASUL_HOST": "127.0.0.1",
        "ARASUL_PORT": "11436",
        "ARASUL_ORIGINS": None,
        "ARASUL_LOG_MAX_BYTES": "50MiB",
        "ARASUL_LOG_KEEP": "3",
        "ARASUL_LOG_FORMAT": "auto",
        "ARASUL_LOG_LEVEL": "info",
        "ARASUL_STOP_TIMEOUT": "7s",
        "ARASUL_STABLE_SECONDS": "10s",
        "ARASUL_BACKOFF_BASE": "0.5s",
        "ARASUL_BACKOFF_MAX": "30s",
        "ARASUL_BACKOFF_RESET": "60s",
        "ARASUL_START_RETRIES": "5",
        "ARASUL_ON_GIVE_UP": "retry",
        "ARASUL_HEALTH_GRACE": "300s",
        "ARASUL_ALIASES": None,
        "ARASUL_PULLS": "2",
        "ARASUL_PULL_STALL": "25s",
        "ARASUL_HEAL": "act",
        "ARASUL_STUCK_SECONDS": "60s",
        "ARASUL_SILENT_SECONDS": "15s",
        "ARASUL_LOAD_STUCK_SECONDS": "120s",
        "ARASUL_LOW_MEMORY_SECONDS": "30s",
        "ARASUL_PROBE": "off",
        "ARASUL_RESTORE": "on",
        "ARASUL_GPU": "auto",
        "ARASUL_JTOP": "off",
        "ARASUL_SYSROOT": "/",
    }


def test_the_table_fills_every_attribute_with_a_value_of_its_type() -> None:
    settings = load_settings({**HOME, "LLM_GPU_LAYERS": "33", "ARASUL_OLLAMA": sys.executable})

    hints = get_type_hints(Settings, {**vars(effective), "Path": Path, "Mapping": dict})
    plain = {
        name: hint for name, hint in hints.items() if isinstance(hint, type) and get_origin(hint) is None
    }
    assert len(plain) > 25
    assert [name for name, hint in plain.items() if not isinstance(getattr(settings, name), hint)] == []
    assert {field.variable for field in FIELDS} == set(settings.origin_of)


@pytest.mark.parametrize("blank", ["", "  ", "\t\n", '""', "' '"])
def test_blank_is_unset_for_every_variable(blank: str) -> None:
    unset = load_settings(HOME)

    blanked = load_settings({**HOME, **{field.variable: blank for field in FIELDS}})

    assert blanked == unset


def test_all_wrong_values_are_told_at_once_with_value_and_example() -> None:
    wrong = {field.variable: "?!" for field in FIELDS}

    with pytest.raises(SettingsError) as raised:
        load_settings({**HOME, **wrong})

    problems = raised.value.problems
    assert [problem.split()[0] for problem in problems] == [field.variable for field in FIELDS]
    assert all(
        re.search(r"^(\w+) is '\?!'.*allowed is .+, for example \1=\S+\.$", problem) for problem in problems
    )
    assert str(raised.value).startswith(f"{len(FIELDS)} settings are wrong:\n- LLM_MODEL is ")


def test_every_example_in_a_message_would_itself_be_accepted(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as raised:
        load_settings({**HOME, **{field.variable: "?!" for field in FIELDS}})
    examples = dict(
        sentence.removesuffix(".").partition("for example ")[2].split("=", 1)
        for sentence in raised.value.problems
    )
    engine = tmp_path / "ollama"
    engine.touch(mode=0o755)

    settings = load_settings({**HOME, **examples, "ARASUL_OLLAMA": str(engine)})

    assert settings.gpu_layers == 33


def test_a_value_with_a_password_is_not_repeated() -> None:
    with pytest.raises(SettingsError) as raised:
        load_settings({**HOME, "OLLAMA_HOST": "http://u:hunter2@h/", "OLLAMA_ORIGINS": "ftp://u:hunter2@h"})

    assert "hunter2" not in str(raised.value)
    assert "***@h" in str(raised.value)


def test_an_endless_value_is_cut_in_the_message() -> None:
    with pytest.raises(SettingsError) as raised:
        load_settings({**HOME, "ARASUL_HEAL": "x" * 10_000})

    assert len(str(raised.value)) < 300


def test_each_value_knows_its_origin() -> None:
    settings = load_settings({**HOME, "PATH": "/nonexistent", "LLM_MODEL": "tiny"})

    assert settings.origin_of["LLM_MODEL"] == "environment"
    assert settings.origin_of["LLM_CONTEXT_LENGTH"] == "default"
    assert settings.origin_of["ARASUL_OLLAMA"].startswith("derived: not on PATH")


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("ARASUL_PROT", "ARASUL_PORT"),
        ("LLM_CONTEXT_LENGHT", "LLM_CONTEXT_LENGTH"),
        ("ARASUL_LOGLEVEL", "ARASUL_LOG_LEVEL"),
    ],
)
def test_an_unknown_name_of_ours_is_a_warning_with_the_nearest_known_one(name: str, nearest: str) -> None:
    (warning,) = warnings_for({name: "private"})

    assert warning == f"{name} is no setting and is ignored; did you mean {nearest}?"


def test_names_that_are_known_blank_or_not_ours_give_no_warning() -> None:
    assert (
        warnings_for(
            {"ARASUL_URL": "x", "ARASUL_MARKER": "x", "LLM_MODEL": "x", "ARASUL_X": " ", "OLLAMA_X": "x"}
        )
        == ()
    )


def test_a_name_like_no_other_points_to_the_list_of_settings() -> None:
    (warning,) = warnings_for({"LLM_9999999999": "x"})

    assert "`arasul-supervisor config` lists all settings" in warning


def test_the_effect_on_the_engine_is_told_as_the_engine_gets_it() -> None:
    rows = {row.variable: row for row in describe(load_settings({**HOME, "LLM_GPU_LAYERS": "33"}), HOME)}

    assert rows["LLM_CONTEXT_LENGTH"].engine == "OLLAMA_CONTEXT_LENGTH=8192"
    assert rows["LLM_KEEP_ALIVE_SECONDS"].engine == "OLLAMA_KEEP_ALIVE=300s"
    assert rows["LLM_GPU_LAYERS"].engine == "LLAMA_ARG_N_GPU_LAYERS=33"
    assert rows["OLLAMA_HOST"].engine == "OLLAMA_HOST=0.0.0.0:11434"
    assert all(row.effect for row in rows.values())


def test_a_setting_that_the_user_overrode_for_the_engine_says_so() -> None:
    environ = {**HOME, "OLLAMA_CONTEXT_LENGTH": "4096"}

    rows = {row.variable: row for row in describe(load_settings(environ), environ)}

    assert rows["LLM_CONTEXT_LENGTH"].engine is None
    assert "OLLAMA_CONTEXT_LENGTH is set in the environment" in rows["LLM_CONTEXT_LENGTH"].effect


def test_the_log_falls_back_to_the_state_home_where_the_system_folder_is_not_writable(tmp_path: Path) -> None:
    closed = below_a_file(tmp_path)

    assert places.default_log_file({"XDG_STATE_HOME": "/xdg"}, folder=closed) == (
        Path("/xdg/arasul-supervisor/ollama.log"),
        f"derived: {closed} is not writable",
    )
    assert places.default_log_file(HOME, folder=closed)[0] == Path(
        "/home/u/.local/state/arasul-supervisor/ollama.log"
    )
    assert places.default_log_file(HOME, folder=tmp_path) == (tmp_path / "ollama.log", "default")


def test_the_state_folder_is_the_systems_when_it_could_be_created_and_is_not_created(tmp_path: Path) -> None:
    could_be_created = tmp_path / "arasul-supervisor"

    assert places.default_state_dir(HOME, folder=could_be_created) == (could_be_created, "default")
    assert not could_be_created.exists()
    assert places.default_state_dir(HOME, folder=below_a_file(tmp_path))[0] == Path(
        "/home/u/.local/state/arasul-supervisor"
    )


def test_links_into_a_volume_that_is_still_empty_count_as_places_in_it(tmp_path: Path) -> None:
    volume, system = tmp_path / "volume", tmp_path / "system"
    volume.mkdir()
    system.mkdir()
    (system / "ollama.log").symlink_to(volume / "logs" / "ollama.log")
    (system / "state").symlink_to(volume / "supervisor")

    assert places.default_log_file(HOME, folder=system) == (system / "ollama.log", "default")
    assert places.default_state_dir(HOME, folder=system / "state") == (system / "state", "default")
    assert list(volume.iterdir()) == []


def test_links_to_where_nothing_can_be_made_are_passed_over(tmp_path: Path) -> None:
    closed, system = below_a_file(tmp_path), tmp_path / "system"
    system.mkdir()
    (system / "ollama.log").symlink_to(closed / "ollama.log")
    (system / "state").symlink_to(closed / "supervisor")

    assert places.default_log_file(HOME, folder=system)[1] == f"derived: {system} is not writable"
    assert places.default_state_dir(HOME, folder=system / "state")[1].startswith("derived:")


def test_a_relative_state_home_is_ignored_as_xdg_says(tmp_path: Path) -> None:
    folder, _ = places.default_state_dir({**HOME, "XDG_STATE_HOME": "rel"}, folder=below_a_file(tmp_path))

    assert folder == Path("/home/u/.local/state/arasul-supervisor")


def test_without_home_the_passwd_entry_is_taken() -> None:
    home, origin = places.home_folder({})

    assert home is not None
    assert origin == "passwd entry"
    assert load_settings({}).default_model == "qwen3:14b-q8"


def test_without_home_and_passwd_entry_a_place_must_be_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def no_entry(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setattr("pwd.getpwuid", no_entry)

    with pytest.raises(ValueError, match="without HOME there is no place to fall back to"):
        places.default_state_dir({}, folder=below_a_file(tmp_path))
    assert places.default_state_dir({}, folder=tmp_path) == (tmp_path, "default")


def test_the_engine_on_path_comes_before_the_made_one(tmp_path: Path) -> None:
    on_path, made = tmp_path / "bin" / "ollama", tmp_path / "made"
    on_path.parent.mkdir()
    on_path.touch(mode=0o755)
    made.touch(mode=0o755)
    path = os.pathsep.join(["", "/nonexistent", str(on_path.parent)])

    assert places.find_engine({"PATH": path}, made=made) == (on_path, "derived: found on PATH")
    assert places.find_engine({"PATH": "/nonexistent"}, made=made)[0] == made
    assert places.find_engine({"PATH": ""}, made=NO_ENGINE) == (None, "derived: not on PATH")


def test_importing_settings_and_environment_stays_off_the_heavy_libraries() -> None:
    program = (
        "import sys, arasul_supervisor.settings, arasul_supervisor.ollama.environment;"
        "print(sorted({'aiohttp','structlog','psutil','msgspec','asyncio','difflib','shutil'} & set(sys.modules)))"
    )

    seen = subprocess.run([sys.executable, "-S", "-c", program], cwd=Path(places.__file__).parents[2],
                          capture_output=True, text=True, check=True, timeout=20)  # fmt: skip

    assert seen.stdout.strip() == "[]"


def below_a_file(tmp_path: Path) -> Path:
    """A place where nobody can make anything, root neither."""
    (tmp_path / "file").touch()
    return tmp_path / "file" / "folder"
