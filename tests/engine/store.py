"""Ollama's model store, written from outside: blob, config and manifest as plain files."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.engine.tiny_gguf import NORMAL, Shape, write_gguf

if TYPE_CHECKING:
    from pathlib import Path

MANIFEST_KIND = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG_KIND = "application/vnd.docker.container.image.v1+json"
MODEL_KIND = "application/vnd.ollama.image.model"


@dataclass(frozen=True, slots=True)
class Layers:
    """A model as a registry holds it."""

    manifest: bytes
    blobs: dict[str, bytes]  # by digest `sha256:…`, config last


def layers_of(gguf: bytes) -> Layers:
    """Manifest and blobs of a model file."""
    config = json.dumps(
        {
            "model_format": "gguf",
            "model_family": "llama",
            "model_families": ["llama"],
            "model_type": "111K",
            "file_type": "F32",
            "architecture": "amd64",
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [digest_of(gguf)]},
        }
    ).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_KIND,
        "config": {"mediaType": CONFIG_KIND, "digest": digest_of(config), "size": len(config)},
        "layers": [{"mediaType": MODEL_KIND, "digest": digest_of(gguf), "size": len(gguf)}],
    }
    return Layers(json.dumps(manifest).encode(), {digest_of(gguf): gguf, digest_of(config): config})


def install_model(store: Path, name: str, gguf: Path) -> str:
    """Make the model file known in the store under `name` (`tiny`, `tiny:q8`, `host:5000/ns/tiny:latest`).

    :returns: digest of the model blob, `sha256:…`
    """
    layers = layers_of(gguf.read_bytes())
    for digest, content in layers.blobs.items():
        blob = blob_path(store, digest)
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(content)
    path = manifest_path(store, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(layers.manifest)
    return next(iter(layers.blobs))


def blob_path(store: Path, digest: str) -> Path:
    """Where a blob lies."""
    return store / "blobs" / digest.replace(":", "-")


def manifest_path(store: Path, name: str) -> Path:
    """Where a model's manifest lies."""
    rest, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:
        rest, tag = name, "latest"
    parts = rest.split("/")
    default = ("registry.ollama.ai", "library")
    return store.joinpath("manifests", *default[: 3 - len(parts)], *parts, tag)


def digest_of(content: bytes) -> str:
    """Digest as the store and the registry write it."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class ModelFiles:
    """Model files of this session, each written once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._written: dict[Shape, Path] = {}

    def __call__(self, shape: Shape = NORMAL) -> Path:
        """The file of that shape."""
        if shape not in self._written:
            self._written[shape] = write_gguf(self._folder / f"{len(self._written)}.gguf", shape)
        return self._written[shape]


@pytest.fixture(scope="session")
def model_files(tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    """`model_files(SHAPE)` is the path of a GGUF file of that shape; read only."""
    return ModelFiles(tmp_path_factory.mktemp("gguf"))


@pytest.fixture
def tiny_model_store(tmp_path: Path, model_files: ModelFiles) -> Path:
    """A model store of this test's own that holds `tiny:latest`."""
    store = tmp_path / "store"
    install_model(store, "tiny", model_files())
    return store
