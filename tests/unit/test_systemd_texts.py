"""The texts that the systemd install step writes, and those that it reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.systemd.places import Prefix
from scripts.systemd.reading import parse_settings, parse_shown_environment
from scripts.systemd.unit_text import drop_in_text, env_file_text, prefix_of_unit, unit_text
from tests.unit.boxes import WISHES


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


def test_the_signs_that_systemd_reads_are_written_so_that_it_reads_them_as_they_are() -> None:
    text = drop_in_text(
        user="u", groups=frozenset(), folders=[Path("/mnt/50% of; it's")], mounts=[], has_modprobe=False
    )
    assert 'ReadWritePaths="/mnt/50%% of; it\'s"\n' in text


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
