"""What the systemd install step refuses, and what it tells a person to do: nothing that harms the box."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from scripts.systemd import box as box_module
from scripts.systemd import command
from scripts.systemd.actions import RequireWritable, Write
from scripts.systemd.errors import CannotInstall
from scripts.systemd.perform import perform
from scripts.systemd.places import Prefix
from scripts.systemd.plan import plan_install
from scripts.systemd.reading import Record, read_record, read_settings
from scripts.systemd.refusals import check_ground
from tests.unit.boxes import OFFICIAL, OLLAMA_HOME, PLAIN, PREFIX, PYTHON, WISHES, with_settings

if TYPE_CHECKING:
    from scripts.systemd.box import Box

MODELS = OLLAMA_HOME / ".ollama" / "models"
DISABLE = replace(WISHES, of_ollama="disable")


def remedies(box: Box) -> list[RequireWritable]:
    return [action for action in plan_install(box, WISHES).actions if isinstance(action, RequireWritable)]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        pytest.param({"engine": None}, "There is no Ollama", id="no engine"),
        pytest.param({"engine": Path("/home/jan/ollama")}, "cannot see home folders", id="engine in a home"),
        pytest.param(
            {"resolved": {PLAIN.engine: Path("/home/jan/ollama")}}, "cannot run /home/jan/ollama", id="a link to a home"
        ),
        pytest.param({"pythons": ()}, "no Python", id="no Python"),
        pytest.param(
            {"pythons": (replace(PYTHON, version=(3, 8)),)}, "needed is 3.10", id="Python too old"
        ),
        pytest.param(
            {"pythons": (replace(PYTHON, has_venv=False),)}, "apt-get install python3-venv", id="no venv"
        ),
        pytest.param(
            {"pythons": (replace(PYTHON, path=Path("/root/.pyenv/python")),)}, "home folder", id="Python in a home"
        ),
    ],
)  # fmt: skip
def test_what_is_missing_is_said_before_anything_is_done(change: dict[str, Any], word: str) -> None:
    with pytest.raises(CannotInstall, match=word):
        plan_install(replace(PLAIN, **change), WISHES)


@pytest.mark.parametrize(
    ("is_root", "has_systemd", "word"),
    [(False, True, "sudo make"), (True, False, "systemd does not run this box")],
)
def test_without_root_or_systemd_it_does_not_even_look(is_root: bool, has_systemd: bool, word: str) -> None:
    with pytest.raises(CannotInstall, match=word):
        check_ground(is_root=is_root, has_systemd=has_systemd)


@pytest.mark.parametrize(
    ("folder", "change", "word"),
    [
        pytest.param("srv/it", {}, "absolute path", id="relative"),
        pytest.param("/srv/a b", {}, "absolute path", id="a blank"),
        pytest.param("/srv/50%", {}, "absolute path", id="a sign of systemd's"),
        pytest.param("/srv/it\nExecStartPre=+x", {}, "absolute path", id="a line"),
        pytest.param("/srv/../home", {}, "absolute path", id="up again"),
        pytest.param("/", {}, "absolute path", id="the root"),
        pytest.param("/home/it", {}, "home folders", id="in a home"),
        pytest.param("/srv/it", {"resolved": {Path("/srv/it"): Path("/home/it")}}, "home folders", id="behind a link"),
        pytest.param("/srv", {"is_prefix_taken": True}, "PREFIX=/srv/arasul-supervisor", id="of others"),
        pytest.param("/srv/it", {"installed_below": PREFIX.folder}, "sudo make uninstall-systemd", id="a second one"),
    ],
)  # fmt: skip
def test_a_prefix_that_cannot_be_ours_is_refused(folder: str, change: dict[str, Any], word: str) -> None:
    with pytest.raises(CannotInstall, match=word):
        plan_install(replace(PLAIN, **change), replace(WISHES, prefix=Prefix(Path(folder))))


@pytest.mark.parametrize(
    "target", ["/m\nExecStartPre=+/tmp/evil", '/m "x', "/m\\x", "/m\x7f", "/m\udcff", "/home/a:b"]
)
def test_a_link_whose_target_could_say_more_than_a_path_is_refused(target: str) -> None:
    with pytest.raises(CannotInstall, match="cannot stand in a unit"):
        plan_install(replace(OFFICIAL, resolved={MODELS: Path(target)}), DISABLE)


@pytest.mark.parametrize("named", ["/mnt/a\tb", '/mnt/"a"', "/mnt/../etc", "/home/jan/a:b"])
def test_a_setting_that_could_say_more_than_a_path_is_refused(named: str) -> None:
    with pytest.raises(CannotInstall, match="cannot stand in a unit"):
        plan_install(with_settings(PLAIN, OLLAMA_MODELS=named), WISHES)


@pytest.mark.parametrize(
    "variable", [{"OLLAMA_MODELS": "/mnt/ssd"}, {"ARASUL_LOG_FILE": "/mnt/ssd/ollama.log"}]
)
def test_nobody_is_told_to_give_away_a_folder_of_somebody_elses(variable: dict[str, str]) -> None:
    box = replace(with_settings(PLAIN, **variable), owners={Path("/mnt/ssd"): "root"})
    (required,) = remedies(box)
    assert "chown" not in required.if_absent + required.if_closed
    assert "a folder of its own" in required.if_closed


def test_where_a_link_leads_is_not_given_away_either() -> None:
    box = replace(with_settings(PLAIN, OLLAMA_MODELS="/mnt/m"), resolved={Path("/mnt/m"): Path("/etc")})
    box = replace(box, owners={Path("/mnt/m"): "root", Path("/etc"): "root"})
    assert not any("chown" in required.if_closed for required in remedies(box))


def test_a_log_of_somebody_elses_at_the_documented_path_leads_to_a_folder_of_its_own() -> None:
    box = replace(with_settings(PLAIN, ARASUL_LOG_FILE="/var/log/ollama.log"), log_link_is_free=False)
    (required,) = remedies(replace(box, owners={Path("/var/log"): "root"}))
    assert "such as /var/log/arasul-supervisor" in required.if_closed


def test_models_that_root_keeps_for_ollamas_service_are_not_lost_from_sight_unsaid() -> None:
    store = Path("/root/.ollama/models")
    service = replace(OFFICIAL.ollama, user="root")
    box = replace(OFFICIAL, ollama=service, homes={"root": Path("/root")}, owners={store: "root"})
    with pytest.raises(
        CannotInstall, match=r"keeps its models in /root/\.ollama/models\. They belong to root"
    ):
        plan_install(box, DISABLE)
    plan_install(with_settings(box, OLLAMA_MODELS="/var/lib/arasul-supervisor/models"), DISABLE)


def test_settings_that_are_not_utf_8_are_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "settings").write_bytes(b"A=1\nOLLAMA_MODELS=/mnt/\xe4\n")
    with pytest.raises(CannotInstall, match=r"Line 2 of .* is not UTF-8"):
        read_settings(tmp_path / "settings")


@pytest.mark.parametrize("text", ["", "[]", "null", '{"disabled_ollama": true}', "\udcff"])
def test_a_record_of_another_program_is_none_of_ours(tmp_path: Path, text: str) -> None:
    (tmp_path / "installation.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert read_record(tmp_path / "installation.json") is None


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    record = Record(disabled_ollama=True, made_user=True, user="ollama", venvs=("a", "b"))
    (tmp_path / "installation.json").write_text(record.text)
    assert read_record(tmp_path / "installation.json") == record


@pytest.mark.parametrize("end", [EOFError, KeyboardInterrupt])
def test_no_answer_to_the_question_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, end: type[BaseException]
) -> None:
    def no_answer(_: str) -> str:
        raise end

    monkeypatch.setattr("builtins.input", no_answer)
    with pytest.raises(CannotInstall, match="Nothing has been changed"):
        command._ask("Well?")


def test_a_command_that_hangs_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(box_module, "_LIMIT_S", 0.1)
    with pytest.raises(CannotInstall, match="`sleep 60` did not end"):
        box_module._output(["sleep", "60"])


def test_settings_with_a_password_are_never_readable_by_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes = []
    real = os.open

    def spy(path: Any, flags: int, mode: int = 0o777) -> int:  # Any: as os.open has it
        fd = real(path, flags, mode)
        modes.append((bool(flags & os.O_EXCL), os.fstat(fd).st_mode & 0o777))
        return fd

    monkeypatch.setattr(os, "open", spy)
    perform(Write(tmp_path / "settings", "HTTPS_PROXY=…\n", mode=0o640))
    assert modes == [(True, 0o640)]
