"""What lies in the store: each model by its manifest, and what is wrong with it. Blocks: call it in a thread.

The engine is not asked: a sick one does not answer, and it hides what it cannot read. A manifest lies at
`manifests/<host>/<namespace>/<model>/<tag>` (facts/ollama.md §8).
"""

from __future__ import annotations

import hashlib
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from arasul_supervisor.model_store.manifests import MODEL_LAYER, Layer, Manifest, parse_manifest
from arasul_supervisor.model_store.parts import blob_file

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

MAX_MANIFESTS: Final = 5000
MAX_MANIFEST_BYTES: Final = 16 * 1024 * 1024  # one of 10,000 tensors has about 2 MB
FIRST_BYTES: Final = 16 * 1024  # others have less than 1 KiB
# Ollama writes a manifest in place and removes a model file by file: what looks broken is looked at once more.
SECOND_LOOK_S: Final = 0.05
CURE: Final = "POST /api/models/repair or another pull of it mends it; DELETE /api/models/delete removes it."
SHORT_DIGEST: Final = len("sha256:") + 12
_HOST: Final = "registry.ollama.ai"
_NAMESPACE: Final = "library"
_DEPTH: Final = 4


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """Where the manifest of a model lies, and the model's name as Ollama lists it."""

    name: str
    path: Path


@dataclass(frozen=True, slots=True)
class Walk:
    """The manifests in the order of their paths; not `is_whole` when a folder was not ours to see, or for too many."""

    files: tuple[ManifestFile, ...]
    is_whole: bool


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A model whose manifest can be read. `digest` is the sha256 of the manifest's bytes, as `/api/tags` gives it."""

    name: str
    manifest: Manifest
    digest: str


@dataclass(frozen=True, slots=True)
class BrokenManifest:
    """A model that cannot be used: which, and why, with what to do.

    `corrupt_file`: its manifest, where that is no manifest; None where it cannot be read, or blobs are what is wrong.
    """

    name: str
    reason: str
    corrupt_file: Path | None = None


@dataclass(frozen=True, slots=True)
class StoreListing:
    """All that is in the store; a model whose blobs are missing is among the `models` and the `broken`.

    `blob_bytes`: length of each blob that a model names and that is there. `is_whole`: no manifest and no folder
    kept back what it names, so that a blob which no model names belongs to none.
    """

    models: tuple[StoredModel, ...]
    broken: tuple[BrokenManifest, ...]
    blob_bytes: Mapping[str, int]
    is_whole: bool

    def model(self, name: str) -> StoredModel | None:
        """The model that Ollama lists by exactly this name."""
        return next((model for model in self.models if model.name == name), None)


def read_store(store: Path) -> StoreListing:
    """One look at all manifests, and at the length of each blob that they name.

    A store that is not there is empty.

    :param store: the folder that OLLAMA_MODELS names
    :raises OSError: the folder of the manifests or that of the blobs cannot be read
    """
    walk = walk_manifests(store)
    if not walk.files:
        _raise_if_unreadable(store / "manifests")
    lengths: dict[str, int] = {}
    looks = [_look(store, file, lengths) for file in walk.files]
    if any(look.broken for look in looks):
        time.sleep(SECOND_LOOK_S)
        looks = [
            _look(store, file, lengths) if look.broken else look
            for file, look in zip(walk.files, looks, strict=True)
        ]
    broken = [look.broken for look in looks if look.broken]
    is_each_read = all(look.model for look in looks if look.broken)
    return StoreListing(
        models=tuple(look.model for look in looks if look.model),
        broken=tuple(sorted(broken, key=lambda one: one.name)),
        blob_bytes=lengths,
        is_whole=walk.is_whole and is_each_read,
    )


def walk_manifests(store: Path) -> Walk:
    """Every manifest of the store; what lies at another depth is no model, and what is hidden is none."""
    manifests = store / "manifests"
    places: list[tuple[str, ...]] = [()]
    is_whole = True
    for depth in range(_DEPTH):
        is_last = depth == _DEPTH - 1
        below: list[tuple[str, ...]] = []
        for place in places:
            names = _names(manifests.joinpath(*place), are_files=is_last)
            is_whole = is_whole and names is not None
            below += [(*place, name) for name in names or ()]
        places = below
    files = [ManifestFile(shown_name(place), manifests.joinpath(*place)) for place in places[:MAX_MANIFESTS]]
    return Walk(tuple(files), is_whole and len(places) <= MAX_MANIFESTS)


def shown_name(parts: Sequence[str]) -> str:
    """Host, namespace, model and tag as Ollama lists them: `registry.ollama.ai` and `library` are left out. Pure."""
    host, namespace, model, tag = (os.fsencode(part).decode("utf-8", "replace") for part in parts)
    name = f"{model}:{tag}"
    if host.casefold() != _HOST:
        return f"{host}/{namespace}/{name}"
    return name if namespace.casefold() == _NAMESPACE else f"{namespace}/{name}"


def read_manifest(path: Path) -> bytes:
    """The bytes of a manifest, cut where it is longer than any.

    :raises OSError: it cannot be read
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a FIFO in its place must not hang us
    with open(fd, "rb") as file:
        # a buffer for the longest, made for each, would cost a quarter of a look at a large store
        first = file.read(FIRST_BYTES)
        return first if len(first) < FIRST_BYTES else first + file.read(MAX_MANIFEST_BYTES + 1 - FIRST_BYTES)


def read_weights_of(manifest: Path) -> frozenset[str] | None:
    """Digests of the model layers, `sha256:…`, more than one of a split model; None where it cannot be read. Blocks."""
    try:
        layers = parse_manifest(read_manifest(manifest)).layers
    except (OSError, ValueError):
        return None
    return frozenset(layer.digest for layer in layers if layer.kind == MODEL_LAYER)


@dataclass(frozen=True, slots=True)
class _Look:
    """What one manifest says, and what is wrong with it or its blobs; neither, when it has just been removed."""

    model: StoredModel | None = None
    broken: BrokenManifest | None = None


def _look(store: Path, file: ManifestFile, lengths: dict[str, int]) -> _Look:
    try:
        content = read_manifest(file.path)
        if len(content) > MAX_MANIFEST_BYTES:
            raise ValueError(f"is longer than {MAX_MANIFEST_BYTES} bytes")
        manifest = parse_manifest(content)
    except FileNotFoundError:
        return _Look()
    except OSError as error:
        reason = (
            f"Its manifest {file.path} cannot be read: {error.strerror}. Let the user of the daemon read it."
        )
        return _Look(broken=BrokenManifest(file.name, reason))
    except ValueError as error:
        return _Look(broken=BrokenManifest(file.name, f"Its manifest {error}. {CURE}", file.path))
    model = StoredModel(file.name, manifest, f"sha256:{hashlib.sha256(content).hexdigest()}")
    faults = [fault for layer in manifest.layers if (fault := _fault(store, layer, lengths))]
    if not faults:
        return _Look(model)
    reason = f"{len(faults)} of its {len(manifest.layers)} blobs are missing or cut: {faults[0]}. {CURE}"
    return _Look(model, BrokenManifest(file.name, reason))


def _fault(store: Path, layer: Layer, lengths: dict[str, int]) -> str | None:
    """What is wrong with a blob; a length that was as it should be is not looked at again."""
    if lengths.get(layer.digest) != layer.size_bytes:
        try:
            lengths[layer.digest] = blob_file(store, layer.digest).stat().st_size
        except FileNotFoundError:
            lengths.pop(layer.digest, None)
            return f"{layer.digest[:SHORT_DIGEST]} is missing"
    found_bytes = lengths[layer.digest]
    if found_bytes == layer.size_bytes:
        return None
    return f"{layer.digest[:SHORT_DIGEST]} has {found_bytes:,} of {layer.size_bytes:,} bytes"


def _names(folder: Path, *, are_files: bool) -> list[str] | None:
    """Names of the files or the folders in it, in their order; None where it is not ours to see."""
    try:
        with os.scandir(folder) as entries:
            return sorted(
                entry.name
                for entry in entries
                if not entry.name.startswith(".") and _is(entry.is_file if are_files else entry.is_dir)
            )
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError:
        return None


def _is(look: Callable[[], bool]) -> bool:
    """False too for a link that leads in a circle."""
    try:
        return look()
    except OSError:
        return False


def _raise_if_unreadable(folder: Path) -> None:
    with suppress(FileNotFoundError):
        os.listdir(folder)
