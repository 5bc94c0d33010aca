"""What the systemd uninstall step decides: nothing that is not ours goes, and Ollama comes back first."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from scripts.systemd.actions import Link, Remove, RemoveIfEmpty
from scripts.systemd.errors import CannotInstall
from scripts.systemd.places import DROP_IN, ENV_FILE, LOG_LINK, UNIT_FILE
from scripts.systemd.plan import plan_install
from scripts.systemd.plan_uninstall import plan_uninstall
from scripts.systemd.reading import Record
from tests.unit.boxes import OFFICIAL, PLAIN, PREFIX, WISHES, commands

INSTALLED = replace(PLAIN, is_installed=True, installed_below=PREFIX.folder, record=Record(venvs=("now",)))


def test_an_uninstall_keeps_what_a_person_may_miss() -> None:
    plan = plan_uninstall(INSTALLED, PREFIX, purge=False, restore_ollama=True)
    removed = {action.path for action in plan.actions if isinstance(action, Remove)}
    assert {UNIT_FILE, DROP_IN, LOG_LINK, PREFIX.venvs / "now"} <= removed
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
    links = [action.path for action in plan_install(box, WISHES).actions if isinstance(action, Link)]
    assert links == [PREFIX.current]
    plan = plan_uninstall(box, PREFIX, purge=True, restore_ollama=True)
    assert LOG_LINK not in {action.path for action in plan.actions if isinstance(action, Remove)}


def test_ollamas_service_comes_back_before_anything_else_can_fail_and_the_record_goes_last() -> None:
    box = replace(OFFICIAL, is_installed=True, record=Record(disabled_ollama=True, venvs=("now",)))
    plan = plan_uninstall(box, PREFIX, purge=True, restore_ollama=True)
    assert commands(plan)[1:3] == [
        ("systemctl", "daemon-reload"),
        ("systemctl", "enable", "--now", "ollama.service"),
    ]
    assert plan.actions[-2:] == (Remove(PREFIX.record), RemoveIfEmpty(PREFIX.folder))


def test_without_a_record_nothing_goes_below_the_prefix() -> None:
    plan = plan_uninstall(PLAIN, PREFIX, purge=True, restore_ollama=True)
    gone = [action.path for action in plan.actions if isinstance(action, (Remove, RemoveIfEmpty))]
    assert [path for path in gone if PREFIX.folder in (path, *path.parents)] == []


def test_another_prefix_than_the_one_it_is_installed_below_is_refused() -> None:
    with pytest.raises(CannotInstall, match="installed below /srv/it"):
        plan_uninstall(
            replace(INSTALLED, installed_below=Path("/srv/it")), PREFIX, purge=False, restore_ollama=True
        )
