"""Guards CONTRACT §4 `broken`: whatever lies in the store, models have the names that Ollama lists, broken ones too."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

import pytest

from arasul_supervisor.model_store import listing
from arasul_supervisor.model_store.listing import read_store, shown_name, walk_manifests
from tests.engine.store import Layers, blob_path, layers_of, manifest_path

if TYPE_CHECKING:
    from pathlib import Path

LIBRARY = "registry.ollama.ai/library"
CLOUD = (
    b'{"schemaVersion":2,"config":{"mediaType":"application/vnd.docker.container.image.v1+json",'
    b'"digest":"sha256:%s","size":2},"layers":null}' % hashlib.sha256(b"{}").hexdigest().encode()
)


def install(store: Path, name: str, content: bytes = b"weights") -> Layers:
    layers = layers_of(content)
    write(manifest_path(store, name), layers.manifest)
    for digest, blob in layers.blobs.items():
        write(blob_path(store, digest), blob)
    return layers


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("parts", "name"),
    [
        (("registry.ollama.ai", "library", "tiny", "latest"), "tiny:latest"),
        (("registry.ollama.ai", "mike", "tiny", "q8"), "mike/tiny:q8"),
        (("hf.co", "unsloth", "Qwen3-GGUF", "Q4_K_M"), "hf.co/unsloth/Qwen3-GGUF:Q4_K_M"),
        (("127.0.0.1:5000", "library", "tiny", "latest"), "127.0.0.1:5000/library/tiny:latest"),
        (("Registry.Ollama.AI", "Library", "Tiny", "latest"), "Tiny:latest"),
    ],
    ids=["library", "namespace", "hugging face", "a registry of one's own", "case"],
)
def test_names_are_shown_as_ollama_lists_them(parts: tuple[str, ...], name: str) -> None:
    assert shown_name(parts) == name


def test_what_lies_elsewhere_is_no_model(tmp_path: Path) -> None:
    install(tmp_path, "tiny")
    write(tmp_path / "manifests" / LIBRARY / "tiny/.DS_Store", b"")
    write(tmp_path / "manifests" / LIBRARY / "stray", b"")
    write(tmp_path / "manifests" / LIBRARY / "deep/a/b", b"")
    os.mkfifo(tmp_path / "manifests" / LIBRARY / "tiny/fifo")
    (tmp_path / "manifests/circle").symlink_to("circle")

    assert [file.name for file in walk_manifests(tmp_path).files] == ["tiny:latest"]


def test_a_model_is_listed_with_its_layers_and_the_digest_of_its_manifest(tmp_path: Path) -> None:
    layers = install(tmp_path, "tiny")

    found = read_store(tmp_path)

    (model,) = found.models
    assert (model.name, [layer.digest for layer in model.manifest.layers]) == ("tiny:latest", [*layers.blobs])
    assert model.digest == f"sha256:{hashlib.sha256(layers.manifest).hexdigest()}"
    assert found.blob_bytes == {digest: len(blob) for digest, blob in layers.blobs.items()}
    assert (found.broken, found.is_whole) == ((), True)


def test_a_model_that_runs_in_the_cloud_is_not_broken(tmp_path: Path) -> None:
    write(manifest_path(tmp_path, "gpt-oss:20b-cloud"), CLOUD)
    write(blob_path(tmp_path, f"sha256:{hashlib.sha256(b'{}').hexdigest()}"), b"{}")

    found = read_store(tmp_path)

    assert ([model.name for model in found.models], found.broken) == (["gpt-oss:20b-cloud"], ())


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "is empty"), (b'{"layers":[{"digest', "is no JSON"), (b"{}", "names no layers")],
    ids=["empty", "half", "without layers"],
)
def test_a_corrupt_manifest_is_named_and_says_what_to_do(content: bytes, reason: str, tmp_path: Path) -> None:
    install(tmp_path, "tiny")
    file = manifest_path(tmp_path, "half")
    write(file, content)

    found = read_store(tmp_path)

    (broken,) = found.broken
    assert (broken.name, broken.corrupt_file) == ("half:latest", file)
    assert broken.reason.startswith(f"Its manifest {reason}. POST /api/models/repair")
    assert ([model.name for model in found.models], found.is_whole) == (["tiny:latest"], False)


def test_a_missing_blob_is_told_with_its_digest_and_the_model_is_listed_all_the_same(tmp_path: Path) -> None:
    digest, _ = install(tmp_path, "tiny").blobs
    blob_path(tmp_path, digest).unlink()

    found = read_store(tmp_path)

    assert found.broken[0].reason.startswith(
        f"1 of its 2 blobs are missing or cut: {digest[:19]} is missing."
    )
    assert [model.name for model in found.models] == ["tiny:latest"]
    assert (found.broken[0].corrupt_file, found.is_whole) == (None, True)


def test_a_blob_of_another_length_is_told_with_both_lengths(tmp_path: Path) -> None:
    digest, _ = install(tmp_path, "tiny", b"weights").blobs
    os.truncate(blob_path(tmp_path, digest), 3)

    (broken,) = read_store(tmp_path).broken

    assert f"{digest[:19]} has 3 of 7 bytes" in broken.reason


def test_a_manifest_that_is_just_being_written_is_not_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = install(tmp_path, "tiny")
    file = manifest_path(tmp_path, "tiny")
    file.write_bytes(layers.manifest[:40])
    monkeypatch.setattr("time.sleep", lambda _: file.write_bytes(layers.manifest))

    assert read_store(tmp_path).broken == ()


def test_a_model_that_is_just_being_removed_is_not_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest, _ = install(tmp_path, "tiny").blobs
    blob_path(tmp_path, digest).unlink()
    monkeypatch.setattr("time.sleep", lambda _: manifest_path(tmp_path, "tiny").unlink())

    found = read_store(tmp_path)

    assert (found.models, found.broken) == ((), ())


def test_a_store_that_is_not_there_is_empty(tmp_path: Path) -> None:
    found = read_store(tmp_path / "missing")

    assert (found.models, found.broken, found.is_whole) == ((), (), True)


def test_a_store_that_is_no_folder_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "manifests").touch()

    with pytest.raises(NotADirectoryError):
        read_store(tmp_path)


def test_more_manifests_than_anybody_has_make_the_listing_not_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "one")
    install(tmp_path, "two")
    monkeypatch.setattr(listing, "MAX_MANIFESTS", 1)

    found = read_store(tmp_path)

    assert ([model.name for model in found.models], found.is_whole) == (["one:latest"], False)
