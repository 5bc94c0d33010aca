"""Guards CONTRACT §2 and §5: `config` prints each value, its origin and its effect, and all faults at once."""

from __future__ import annotations

import json

import pytest

from arasul_supervisor.cli import config, main
from arasul_supervisor.ollama.environment import load_checked_settings
from arasul_supervisor.settings import SettingsError
from arasul_supervisor.settings.fields import FIELDS

ENVIRON = {"HOME": "/home/u", "PATH": "/nonexistent", "HTTPS_PROXY": "http://u:hunter2@proxy"}


def test_every_setting_is_printed_with_value_origin_and_effect(capsys: pytest.CaptureFixture[str]) -> None:
    code = config.report({**ENVIRON, "LLM_CONTEXT_LENGTH": "4096"}, output_format="text")

    out = capsys.readouterr().out
    assert code == 0
    assert [field.variable for field in FIELDS if f"{field.variable} = " not in out] == []
    assert "LLM_CONTEXT_LENGTH = 4096   [environment]\n" in out
    assert "    engine: OLLAMA_CONTEXT_LENGTH=4096\n" in out
    assert "LLM_GPU_LAYERS = (unset)   [default]\n" in out
    assert "    OLLAMA_NOPRUNE=1\n" in out
    assert "hunter2" not in out


def test_json_is_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    code = config.report(ENVIRON, output_format="json")

    answer = json.loads(capsys.readouterr().out)
    assert code == 0
    assert answer["settings"][1] == {
        "variable": "LLM_CONTEXT_LENGTH",
        "value": "8192",
        "origin": "default",
        "effect": "tokens of context for each request",
        "engine": "OLLAMA_CONTEXT_LENGTH=8192",
    }
    assert answer["engine"]["variables"]["OLLAMA_KEEP_ALIVE"] == "300s"
    assert "ARASUL_MARKER" not in answer["engine"]["variables"]


def test_layers_are_not_shown_as_given_to_an_engine_that_does_not_read_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    config.report({**ENVIRON, "LLM_GPU_LAYERS": "33", "ARASUL_OLLAMA": "/bin/sh"}, output_format="text")

    out = capsys.readouterr().out
    assert "engine: LLAMA_ARG_N_GPU_LAYERS" not in out
    assert "only to loads made by this daemon." in out


def test_all_faults_of_settings_and_engine_variables_are_told_with_code_2(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = {**ENVIRON, "ARASUL_PORT": "0", "LLAMA_ARG_FIT": "yes", "ARASUL_PROT": "x"}
    monkeypatch.setattr("os.environ", environ)

    code = main(["config"])

    captured = capsys.readouterr()
    assert code == 2
    assert captured.out == ""
    assert "warning: ARASUL_PROT is no setting" in captured.err
    assert "2 settings are wrong:\n- ARASUL_PORT is '0'" in captured.err
    assert "\n- LLAMA_ARG_FIT is 'yes'" in captured.err


def test_faults_of_the_engines_variables_alone_are_told_too() -> None:
    with pytest.raises(SettingsError, match="OLLAMA_NOPRUNE is 'off'"):
        load_checked_settings({**ENVIRON, "OLLAMA_NOPRUNE": "off"})


@pytest.mark.parametrize(
    ("argv", "begins"),
    [(["config"], "LLM_MODEL = "), (["config", "--json"], "{\n"), (["--json", "config"], "{\n")],
)
def test_the_command_line_chooses_the_form(
    argv: list[str], begins: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.environ", ENVIRON)

    code = main(argv)

    assert code == 0
    assert capsys.readouterr().out.startswith(begins)
