"""What the systemd install step decides, for boxes of all kinds: user, folders, taken over settings, refusals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from scripts.systemd.actions import BuildVenv, Link, Remove, RequireWritable, Run, Start, Write
from scripts.systemd.box import Box, OllamaService, Python, Record, parse_settings, parse_shown_environment
from scripts.systemd.places import DROP_IN, ENV_FILE, LOG_LINK, UNIT_FILE, Prefix
from scripts.systemd.plan import CannotInstall, Wishes, check_ground, plan_install
from scripts.systemd.plan_uninstall import plan_uninstall
from scripts.systemd.standing import folders_to_open, service_user
from scripts.systemd.unit_text import drop_in_text, env_file_text, prefix_of_unit, unit_text

if TYPE_CHECKING:
    from scripts.systemd.actions import Plan

PYTHON = Python(Path("/usr/bin/python3.11"), (3, 11), has_venv=True)
PLAIN = Box(
    pythons=(PYTHON,),
    homes={},
    groups=frozenset({"video", "render"}),
    ollama=OllamaService(),
    engine=Path("/usr/local/bin/ollama"),
    settings=None,
    resolved={},
    owners={},
    has_nvidia_modprobe=False,
    log_link_is_free=True,
    command_link_is_free=True,
    is_installed=False,
    old_venvs=(),
    record=Record(),
)
OLLAMA_HOME = Path("/usr/share/ollama")
OFFICIAL = replace(
    PLAIN,
    homes={"ollama": OLLAMA_HOME},
    owners={OLLAMA_HOME / ".ollama/models": "ollama"},
    ollama=OllamaService(is_known=True, is_enabled=True, is_active=True, environment={"PATH": "/bin"}),
)
PREFIX = Prefix(Path("/opt/arasul-supervisor"))
WISHES = Wishes(
    prefix=PREFIX,
    source=Path("/src"),
    venv_name="now",
    unit="ExecStart=/opt/arasul-supervisor/current/bin/arasul-supervisor run\n",
    env_file="#LLM_MODEL=\n",
)


def with_settings(box: Box, **settings: str) -> Box:
    return replace(box, settings=settings)


def written(plan: Plan, path: Path) -> str:
    return next(action.text for action in plan.actions if isinstance(action, Write) and action.path == path)


def commands(plan: Plan) -> list[tuple[str, ...]]:
    return [action.command for action in plan.actions if isinstance(action, Run)]


def test_on_a_plain_box_it_makes_a_user_builds_links_enables_and_starts() -> None:
    plan = plan_install(PLAIN, WISHES)
    kinds = [type(action) for action in plan.actions]
    assert kinds == [Write, Run, BuildVenv, Write, Write, Write, Link, Link, Run, Run, Start]
    assert commands(plan)[0][0] == "useradd"


def test_an_upgrade_leaves_the_settings_alone_and_removes_the_old_program() -> None:
    old = PREFIX.venvs / "before"
    box = replace(
        with_settings(PLAIN, LLM_MODEL="x"), homes={"arasul-supervisor": Path("/var/lib/arasul-supervisor")}
    )
    plan = plan_install(replace(box, old_venvs=(old,)), WISHES)
    assert ENV_FILE not in [action.path for action in plan.actions if isinstance(action, Write)]
    assert plan.actions[-1] == Remove(old)
    assert not any("useradd" in command for command in commands(plan))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        pytest.param({"engine": None}, "There is no Ollama", id="no engine"),
        pytest.param({"engine": Path("/home/jan/ollama")}, "cannot see home folders", id="engine in a home"),
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


def test_the_first_python_that_can_carry_a_service_is_taken() -> None:
    own = replace(PYTHON, path=Path("/home/jan/.venv/bin/python"))
    plan = plan_install(replace(PLAIN, pythons=(own, PYTHON)), WISHES)
    assert next(action.python for action in plan.actions if isinstance(action, BuildVenv)) == PYTHON.path


def test_ollamas_own_service_is_not_touched_unasked() -> None:
    with pytest.raises(CannotInstall, match="--disable-ollama"):
        plan_install(OFFICIAL, WISHES)


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
    record = written(plan_install(box, WISHES), PREFIX.record)
    assert record == '{"disabled_ollama": true, "made_user": true}\n'


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


@pytest.mark.parametrize(
    ("settings", "opened"),
    [
        pytest.param({}, [], id="nothing but its own places"),
        pytest.param({"OLLAMA_MODELS": "/mnt/ssd/m"}, ["/mnt/ssd/m"], id="models on a disk"),
        pytest.param({"OLLAMA_MODELS": "/var/lib/arasul-supervisor/m"}, [], id="models in the state folder"),
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
    remedy = next(action.remedy for action in plan.actions if isinstance(action, RequireWritable))
    assert "chown -R arasul-supervisor: '/mnt/m m'" in remedy


def test_a_disk_is_waited_for_and_written_to() -> None:
    text = drop_in_text(
        user="u",
        groups=frozenset(),
        folders=[Path("/mnt/a b")],
        mounts=[Path("/mnt/a b")],
        has_modprobe=False,
    )
    assert 'RequiresMountsFor="/mnt/a b"' in text
    assert 'ReadWritePaths="/mnt/a b"' in text


def test_of_a_home_only_the_store_is_seen() -> None:
    text = drop_in_text(
        user="u", groups=frozenset(), folders=[Path("/home/jan/models")], mounts=[], has_modprobe=False
    )
    assert "ProtectHome=tmpfs\nBindPaths=/home/jan/models\n" in text


def test_groups_that_do_not_exist_are_not_asked_for() -> None:
    text = drop_in_text(user="u", groups=frozenset({"video"}), folders=[], mounts=[], has_modprobe=False)
    assert text.endswith("SupplementaryGroups=\nSupplementaryGroups=video\n")


def test_the_device_node_of_nvidias_memory_is_made_where_the_program_for_it_is() -> None:
    text = drop_in_text(user="u", groups=frozenset(), folders=[], mounts=[], has_modprobe=True)
    assert "ExecStartPre=-+/usr/bin/nvidia-modprobe -c 0 -u" in text


def test_another_prefix_stands_in_the_unit_and_is_found_there_again() -> None:
    text = unit_text(WISHES.unit, Prefix(Path("/srv/supervisor")))
    assert text == "ExecStart=/srv/supervisor/current/bin/arasul-supervisor run\n"
    assert prefix_of_unit(text) == "/srv/supervisor"


@pytest.mark.parametrize(
    "value", ["plain", "with blanks", 'a "quoted" word', "$HOME and `this`", "back\\slash"]
)
def test_a_variable_taken_over_is_read_back_as_it_was(value: str) -> None:
    assert parse_settings(env_file_text("#comment\n", {"OLLAMA_X": value})) == {"OLLAMA_X": value}


def test_what_systemctl_shows_is_understood() -> None:
    shown = 'PATH=/bin OLLAMA_HOST=0.0.0.0 "OLLAMA_ORIGINS=a b" "X=say \\"yes\\" for \\$1"'
    assert parse_shown_environment(shown) == {
        "PATH": "/bin",
        "OLLAMA_HOST": "0.0.0.0",
        "OLLAMA_ORIGINS": "a b",
        "X": 'say "yes" for $1',
    }


def test_the_settings_of_ollamas_service_are_taken_over_but_for_its_path() -> None:
    service = OllamaService(is_known=True, environment={"PATH": "/x", "OLLAMA_NUM_PARALLEL": "3"})
    text = written(plan_install(replace(PLAIN, ollama=service), WISHES), ENV_FILE)
    assert text.endswith('\n# Taken over from ollama.service:\nOLLAMA_NUM_PARALLEL="3"\n')


def test_that_ollama_is_open_to_the_network_is_said_unless_a_person_chose() -> None:
    assert any("0.0.0.0" in note for note in plan_install(PLAIN, WISHES).notes)
    chosen = with_settings(PLAIN, OLLAMA_HOST="127.0.0.1")
    assert not any("0.0.0.0" in note for note in plan_install(chosen, WISHES).notes)


def test_an_uninstall_keeps_what_a_person_may_miss() -> None:
    plan = plan_uninstall(replace(PLAIN, is_installed=True), PREFIX, purge=False, restore_ollama=True)
    removed = {action.path for action in plan.actions if isinstance(action, Remove)}
    assert {UNIT_FILE, DROP_IN, LOG_LINK, PREFIX.venvs} <= removed
    assert ENV_FILE not in removed
    assert Path("/var/lib/arasul-supervisor") not in removed


def test_a_purge_takes_the_user_only_if_the_install_made_it() -> None:
    ours = replace(PLAIN, record=Record(made_user=True))
    assert ("userdel", "arasul-supervisor") in commands(
        plan_uninstall(ours, PREFIX, purge=True, restore_ollama=True)
    )
    assert not any(
        "userdel" in each for each in commands(plan_uninstall(PLAIN, PREFIX, purge=True, restore_ollama=True))
    )


def test_ollamas_service_comes_back_if_the_install_had_disabled_it() -> None:
    box = replace(OFFICIAL, record=Record(disabled_ollama=True))
    back = ("systemctl", "enable", "--now", "ollama.service")
    assert commands(plan_uninstall(box, PREFIX, purge=False, restore_ollama=True))[-1] == back
    refused = plan_uninstall(box, PREFIX, purge=False, restore_ollama=False)
    assert any("sudo systemctl enable --now ollama.service" in note for note in refused.notes)


def test_links_that_are_not_ours_are_left_alone() -> None:
    box = replace(PLAIN, log_link_is_free=False, command_link_is_free=False)
    assert not any(isinstance(action, Link) for action in plan_install(box, WISHES).actions)
    plan = plan_uninstall(box, PREFIX, purge=True, restore_ollama=True)
    assert LOG_LINK not in {action.path for action in plan.actions if isinstance(action, Remove)}
