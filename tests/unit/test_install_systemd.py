"""What the systemd install step decides, for boxes of all kinds: user, folders, order, taken over settings."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from scripts.systemd.actions import (
    BuildVenv,
    CheckSettings,
    Link,
    Remove,
    RequireWritable,
    Run,
    Start,
    Write,
)
from scripts.systemd.box import Box, OllamaService
from scripts.systemd.errors import CannotInstall
from scripts.systemd.places import DROP_IN, ENV_FILE
from scripts.systemd.plan import plan_install
from scripts.systemd.reading import Record
from scripts.systemd.standing import folders_to_open, service_user
from tests.unit.boxes import (
    OFFICIAL,
    OLLAMA_HOME,
    PLAIN,
    PREFIX,
    PYTHON,
    WISHES,
    commands,
    with_settings,
    written,
)


def test_on_a_plain_box_it_makes_a_user_builds_links_enables_and_starts() -> None:
    plan = plan_install(PLAIN, WISHES)
    kinds = [type(action) for action in plan.actions]
    assert kinds == [
        Write,
        Run,
        BuildVenv,
        CheckSettings,
        Link,
        Write,
        Write,
        Write,
        Link,
        Link,
        Run,
        Run,
        Start,
    ]
    assert commands(plan)[0][0] == "useradd"


def test_an_upgrade_leaves_the_settings_alone_and_removes_the_old_program() -> None:
    old = PREFIX.venvs / "before"
    box = replace(
        with_settings(PLAIN, LLM_MODEL="x"), homes={"arasul-supervisor": Path("/var/lib/arasul-supervisor")}
    )
    plan = plan_install(replace(box, record=Record(venvs=("before",))), WISHES)
    assert ENV_FILE not in [action.path for action in plan.actions if isinstance(action, Write)]
    assert plan.actions[-1] == Remove(old)
    assert not any("useradd" in command for command in commands(plan))


def test_the_first_python_that_can_carry_a_service_is_taken() -> None:
    own = replace(PYTHON, path=Path("/home/jan/.venv/bin/python"))
    plan = plan_install(replace(PLAIN, pythons=(own, PYTHON)), WISHES)
    assert next(action.python for action in plan.actions if isinstance(action, BuildVenv)) == PYTHON.path


def test_ollamas_own_service_is_not_touched_unasked() -> None:
    with pytest.raises(CannotInstall, match="--disable-ollama"):
        plan_install(OFFICIAL, WISHES)


def test_the_settings_are_found_good_before_ollamas_service_is_touched_or_the_program_is_in_force() -> None:
    plan = plan_install(OFFICIAL, replace(WISHES, of_ollama="disable"))
    kinds = [type(action) for action in plan.actions]
    assert kinds.index(CheckSettings) < kinds.index(Link)
    assert "disable" not in [
        word
        for action in plan.actions[: kinds.index(Link)]
        if isinstance(action, Run)
        for word in action.command
    ]


def test_the_settings_are_tried_with_what_the_service_will_have() -> None:
    plan = plan_install(with_settings(PLAIN, LLM_MODEL="x"), WISHES)
    check = next(action for action in plan.actions if isinstance(action, CheckSettings))
    assert (check.program, check.user) == (PREFIX.venvs / "now/bin/arasul-supervisor", "arasul-supervisor")
    assert check.environment == {
        "PATH": PLAIN.path,
        "HOME": "/var/lib/arasul-supervisor",
        "USER": "arasul-supervisor",
        "ARASUL_LOG_FILE": "/var/log/arasul-supervisor/ollama.log",
        "LLM_MODEL": "x",
    }


def test_kept_ollama_does_not_cost_a_running_service_its_program() -> None:
    enabled = replace(
        OFFICIAL, ollama=replace(OFFICIAL.ollama, is_active=False), record=Record(venvs=("before",))
    )
    kept = replace(WISHES, of_ollama="keep")
    assert Remove(PREFIX.venvs / "before") not in plan_install(enabled, kept).actions
    upgraded = plan_install(replace(enabled, is_running=True), kept).actions
    assert [type(action) for action in upgraded[-2:]] == [Start, Remove]


def test_a_second_try_within_the_same_second_does_not_remove_what_it_has_built() -> None:
    plan = plan_install(replace(PLAIN, record=Record(venvs=("before", "now"))), WISHES)
    removed = [action.path for action in plan.actions if isinstance(action, Remove)]
    assert removed == [PREFIX.venvs / "before"]


def test_a_disabled_ollama_service_is_no_question() -> None:
    box = replace(OFFICIAL, ollama=replace(OFFICIAL.ollama, is_enabled=False, is_active=False))
    assert isinstance(plan_install(box, WISHES).actions[-1], Start)


def test_told_so_it_disables_ollamas_service_before_it_starts_and_remembers_it() -> None:
    plan = plan_install(OFFICIAL, replace(WISHES, of_ollama="disable"))
    assert commands(plan)[-2] == ("systemctl", "disable", "--now", "ollama.service")
    assert '"disabled_ollama": true' in written(plan, PREFIX.record)


def test_told_to_keep_it_it_neither_enables_nor_starts() -> None:
    plan = plan_install(OFFICIAL, replace(WISHES, of_ollama="keep"))
    assert not any(isinstance(action, Start) for action in plan.actions)
    assert not any("enable" in command for command in commands(plan))


def test_an_earlier_change_is_remembered_over_upgrades() -> None:
    box = replace(PLAIN, record=Record(disabled_ollama=True, made_user=True))
    record = json.loads(written(plan_install(box, WISHES), PREFIX.record))
    assert record["disabled_ollama"] and record["made_user"]


@pytest.mark.parametrize(
    ("box", "user"),
    [
        pytest.param(PLAIN, "arasul-supervisor", id="no user ollama"),
        pytest.param(OFFICIAL, "ollama", id="its own store"),
        pytest.param(replace(OFFICIAL, owners={}), "arasul-supervisor", id="user ollama without a store"),
        pytest.param(
            replace(with_settings(OFFICIAL, OLLAMA_MODELS="/mnt/m"), owners={Path("/mnt/m"): "ollama"}),
            "ollama", id="its store elsewhere",
        ),
        pytest.param(
            replace(with_settings(OFFICIAL, OLLAMA_MODELS="/mnt/m"), owners={Path("/mnt/m"): "jan"}),
            "arasul-supervisor", id="somebody else's store",
        ),
    ],
)  # fmt: skip
def test_the_service_runs_as_the_owner_of_the_models(box: Box, user: str) -> None:
    assert service_user(box) == user


def run_by(user: str, home: str, **environment: str) -> Box:
    """A box whose ollama.service runs as that user, who owns the store in that home."""
    service = replace(OFFICIAL.ollama, user=user, environment=environment)
    store = Path(environment.get("HOME", home), ".ollama/models")
    return replace(OFFICIAL, ollama=service, homes={user: Path(home)}, owners={store: user})


def test_ollamas_service_of_a_person_goes_on_as_that_person_and_opens_no_more_of_the_home() -> None:
    box = run_by("jan", "/home/jan")
    assert service_user(box) == "jan"
    assert folders_to_open(box, "jan") == (Path("/home/jan/.ollama"),)


def test_the_home_that_a_person_gave_ollamas_service_is_carried_on() -> None:
    box = run_by("ollama", "/usr/share/ollama", HOME="/data/ollama")
    assert service_user(box) == "ollama"
    assert folders_to_open(box, "ollama") == (Path("/data/ollama"),)
    plan = plan_install(box, replace(WISHES, of_ollama="disable"))
    assert 'HOME="/data/ollama"' in written(plan, ENV_FILE)
    assert "RequiresMountsFor=/data/ollama\n" in written(plan, DROP_IN)


def test_a_user_once_chosen_stays() -> None:
    ours = {**OFFICIAL.homes, "arasul-supervisor": Path("/var/lib/a")}
    box = replace(OFFICIAL, homes=ours, record=Record(user="arasul-supervisor"))
    assert service_user(replace(box, is_installed=True)) == "arasul-supervisor"
    assert service_user(box) == "ollama"  # that install was refused halfway
    assert '"user": "ollama"' in written(
        plan_install(box, replace(WISHES, of_ollama="disable")), PREFIX.record
    )


@pytest.mark.parametrize(
    ("settings", "opened"),
    [
        pytest.param({}, [], id="nothing but its own places"),
        pytest.param({"OLLAMA_MODELS": "/mnt/ssd/m"}, ["/mnt/ssd/m"], id="models on a disk"),
        pytest.param({"OLLAMA_MODELS": "/var/lib/arasul-supervisor/m"}, [], id="models in the state folder"),
        pytest.param({"ARASUL_LOG_FILE": "/var/log/ollama.log"}, [], id="the log where the link to it lies"),
        pytest.param({"OLLAMA_MODELS": "relative"}, [], id="not a path that systemd takes"),
        pytest.param(
            {"ARASUL_STATE_DIR": "/data/s", "ARASUL_LOG_FILE": "/data/l/o.log"}, ["/data/s", "/data/l"], id="others"
        ),
    ],
)  # fmt: skip
def test_the_way_is_opened_where_the_settings_point(settings: dict[str, str], opened: list[str]) -> None:
    assert [
        str(path) for path in folders_to_open(replace(PLAIN, settings=settings), "arasul-supervisor")
    ] == opened


def test_a_store_behind_a_link_is_opened_where_it_really_lies() -> None:
    models = OLLAMA_HOME / ".ollama" / "models"
    box = replace(OFFICIAL, resolved={models: Path("/mnt/ssd/models")})
    assert folders_to_open(box, "ollama") == (OLLAMA_HOME, Path("/mnt/ssd/models"))


def test_a_store_that_cannot_be_written_stops_the_install_before_the_program_is_built() -> None:
    plan = plan_install(with_settings(PLAIN, OLLAMA_MODELS="/mnt/m m"), WISHES)
    kinds = [type(action) for action in plan.actions]
    assert kinds.index(RequireWritable) < kinds.index(BuildVenv)


def test_the_settings_of_ollamas_service_are_taken_over_but_for_its_path() -> None:
    service = OllamaService(is_known=True, environment={"PATH": "/x", "OLLAMA_NUM_PARALLEL": "3"})
    text = written(plan_install(replace(PLAIN, ollama=service), WISHES), ENV_FILE)
    assert text.endswith('\n# Taken over from ollama.service:\nOLLAMA_NUM_PARALLEL="3"\n')


def test_that_ollama_is_open_to_the_network_is_said_unless_a_person_chose() -> None:
    assert any("0.0.0.0" in note for note in plan_install(PLAIN, WISHES).notes)
    chosen = with_settings(PLAIN, OLLAMA_HOST="127.0.0.1")
    assert not any("0.0.0.0" in note for note in plan_install(chosen, WISHES).notes)
