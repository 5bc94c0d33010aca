"""Guards DESIGN §7: the engine's generation is known before the spawn, without running anything."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from arasul_supervisor.ollama.environment import engine_generation, remember_version

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def binary(tmp_path: Path) -> Path:
    path = tmp_path / "bin" / "ollama"
    path.parent.mkdir()
    path.write_bytes(b"engine")
    return path


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def test_an_unknown_binary_alone_counts_as_old(binary: Path, state: Path) -> None:
    assert engine_generation(binary, state) is None
    assert not state.exists()


@pytest.mark.parametrize("place", ["bin/llama-server", "lib/ollama/llama-server"])
def test_a_llama_server_where_ollama_looks_tells_the_new_generation(
    binary: Path, state: Path, tmp_path: Path, place: str
) -> None:
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / place).touch()

    assert engine_generation(binary, state) == (0, 30, 0)


def test_a_linked_binary_is_followed_as_ollama_does(binary: Path, state: Path, tmp_path: Path) -> None:
    (binary.parent / "llama-server").touch()
    link = tmp_path / "elsewhere"
    link.symlink_to(binary)

    assert engine_generation(link, state) == (0, 30, 0)


@pytest.mark.parametrize(("said", "version"), [("0.34.4", (0, 34, 4)), ("v0.24.0-rc1", (0, 24, 0))])
def test_the_version_it_named_is_remembered(
    binary: Path, state: Path, said: str, version: tuple[int, int, int]
) -> None:
    remember_version(binary, state, said)

    assert engine_generation(binary, state) == version
    assert [path.name for path in state.iterdir()] == ["engine.json"]


def test_a_changed_binary_is_not_taken_for_the_remembered_one(binary: Path, state: Path) -> None:
    remember_version(binary, state, "0.24.0")

    binary.write_bytes(b"another engine")

    assert engine_generation(binary, state) is None


def test_a_binary_of_the_same_size_and_another_time_is_another(binary: Path, state: Path) -> None:
    remember_version(binary, state, "0.24.0")

    os.utime(binary, ns=(1, 1))

    assert engine_generation(binary, state) is None


@pytest.mark.parametrize("said", ["0.0.0", "", "newest", "1.2"])
def test_a_version_that_tells_nothing_is_not_remembered(binary: Path, state: Path, said: str) -> None:
    remember_version(binary, state, said)

    assert not state.exists()


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"\xff\xfe", b"[]", b'{"version": 7}', b'{"binary": null, "version": "0.34.4"}']
)
def test_a_damaged_note_is_no_note(binary: Path, state: Path, damage: bytes) -> None:
    state.mkdir()
    (state / "engine.json").write_bytes(damage)

    assert engine_generation(binary, state) is None


def test_a_note_for_a_binary_that_is_gone_is_not_believed(binary: Path, state: Path) -> None:
    remember_version(binary, state, "0.34.4")

    binary.unlink()

    assert engine_generation(binary, state) is None


def test_a_note_that_cannot_be_written_is_only_a_lost_shortcut(binary: Path, tmp_path: Path) -> None:
    file_in_the_way = tmp_path / "file"
    file_in_the_way.touch()

    remember_version(binary, file_in_the_way / "state", "0.34.4")

    assert engine_generation(binary, file_in_the_way / "state") is None
