"""Guards CONTRACT §4 `/api/stats`: a runner is called as Ollama calls its model, whatever lies in the store."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arasul_supervisor.telemetry import store_watch
from arasul_supervisor.telemetry.model_names import (
    ModelNames,
    are_names_due,
    read_model_names,
)
from arasul_supervisor.telemetry.store_watch import StoreWatch
from tests.engine.telemetry_ground import Diary, HandClock

BLOB, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64
KIND = "application/vnd.ollama.image.model"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.just(KIND) | st.just(BLOB),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.sampled_from(["layers", "mediaType", "digest", "size"]) | st.text(), inner)
    ),
    max_leaves=20,
)


def manifest(*digests: str) -> bytes:
    other = {"mediaType": "application/vnd.ollama.image.params", "digest": "sha256:" + "c" * 64, "size": 1}
    layers = [*({"mediaType": KIND, "digest": one, "size": 1} for one in digests), other]
    return json.dumps({"layers": layers}).encode()


def install(store: Path, path: str, content: bytes) -> None:
    file = store / "manifests" / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)


def test_all_names_of_a_shared_blob_are_told_in_their_order(tmp_path: Path) -> None:
    install(tmp_path, "registry.ollama.ai/library/tiny/latest", manifest(BLOB))
    install(tmp_path, "registry.ollama.ai/library/copy/v1", manifest(BLOB))
    install(tmp_path, "registry.ollama.ai/library/split/v1", manifest(BLOB, OTHER))

    names = read_model_names(tmp_path, {BLOB}, mono=1.0)

    assert names.by_blob == {BLOB: ("copy:v1", "split:v1", "tiny:latest"), OTHER: ("split:v1",)}


def test_what_is_broken_or_lies_elsewhere_hides_no_other_model(tmp_path: Path) -> None:
    install(tmp_path, "registry.ollama.ai/library/tiny/latest", manifest(BLOB))
    install(tmp_path, "registry.ollama.ai/library/half/latest", manifest(BLOB)[:-20])
    install(tmp_path, "registry.ollama.ai/library/tiny/.DS_Store", manifest(BLOB))
    install(tmp_path, "registry.ollama.ai/library/stray", manifest(BLOB))
    install(tmp_path, "registry.ollama.ai/library/deep/a/b", manifest(BLOB))
    os.mkfifo(tmp_path / "manifests/registry.ollama.ai/library/tiny/fifo")
    (tmp_path / "manifests/circle").symlink_to("circle")

    names = read_model_names(tmp_path, {BLOB}, mono=1.0)

    assert names.by_blob == {BLOB: ("tiny:latest",)}


@pytest.mark.parametrize("name", ["missing", "a file"])
def test_a_store_that_cannot_be_read_has_no_names(name: str, tmp_path: Path) -> None:
    (tmp_path / "a file").mkdir()
    (tmp_path / "a file" / "manifests").touch()

    assert read_model_names(tmp_path / name, {BLOB}, mono=1.0) == ModelNames({}, frozenset({BLOB}), 1.0)


def test_a_file_name_that_is_no_text_can_still_be_shown(tmp_path: Path) -> None:
    install(tmp_path, os.fsdecode(b"registry.ollama.ai/library/t\xff/latest"), manifest(BLOB))

    assert read_model_names(tmp_path, {BLOB}, mono=1.0).by_blob == {BLOB: ("t�:latest",)}


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_in_a_manifest_give_digests_or_nothing(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        install(Path(folder), "registry.ollama.ai/library/tiny/latest", content)

        assert set(read_model_names(Path(folder), {BLOB}, mono=1.0).by_blob) <= {BLOB}


def test_a_manifest_that_is_nested_without_end_is_broken(tmp_path: Path) -> None:
    install(tmp_path, "registry.ollama.ai/library/tiny/latest", b"[" * 100_000)

    assert read_model_names(tmp_path, {BLOB}, mono=1.0).by_blob == {}


@pytest.mark.parametrize(
    ("known", "blobs", "now_mono", "is_due"),
    [
        (None, set(), 0.0, False),
        (None, {BLOB}, 0.0, True),
        (ModelNames({BLOB: ("tiny:latest",)}, frozenset({BLOB}), 0.0), {BLOB}, 299.0, False),
        (ModelNames({BLOB: ("tiny:latest",)}, frozenset({BLOB}), 0.0), {BLOB, OTHER}, 5.0, True),
        (ModelNames({BLOB: ("tiny:latest",), OTHER: ("b:1",)}, frozenset({BLOB}), 0.0), {OTHER}, 5.0, False),
        (ModelNames({}, frozenset({BLOB}), 0.0), {BLOB}, 5.0, False),
        (ModelNames({}, frozenset({BLOB}), 0.0), {BLOB}, 300.0, True),
    ],
    ids=[
        "nothing is loaded",
        "the first",
        "known",
        "a new one",
        "seen with another",
        "nameless, asked just now",
        "nameless, asked long ago",
    ],
)
def test_the_store_is_read_only_for_a_blob_that_is_new(
    known: ModelNames | None, blobs: set[str], now_mono: float, is_due: bool
) -> None:
    assert are_names_due(known, blobs, now_mono=now_mono) is is_due


async def test_names_that_come_late_are_not_lost(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(tmp_path, "registry.ollama.ai/library/tiny/latest", manifest(BLOB))
    reads: list[str] = []

    def slow(store: Path, blobs: set[str], *, mono: float) -> ModelNames:
        reads.append(str(store))
        return read_model_names(store, blobs, mono=mono)

    monkeypatch.setattr(store_watch, "read_model_names", slow)
    watch = StoreWatch(tmp_path, HandClock(), Diary(), stale_after_s=10.0)
    await watch.look((), timeout_s=5.0)

    await watch.look({BLOB}, timeout_s=0.0)  # nobody waits
    await watch.settle(timeout_s=5.0)
    await watch.look({BLOB}, timeout_s=5.0)
    await watch.look({BLOB}, timeout_s=5.0)

    assert (watch.names, len(reads)) == ({BLOB: ("tiny:latest",)}, 1)
