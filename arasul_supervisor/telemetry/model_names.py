"""The names that installed models have, by the blob that a runner maps: from the manifests of the store.

The engine is not asked: a sick one does not answer, and its list of loaded models knows no pid.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from arasul_supervisor.telemetry.files import read_text

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from pathlib import Path

NAMES_KEPT_S: Final = 300.0  # a copy under another name shows after that time
MAX_MANIFESTS: Final = 5000
_MODEL_LAYER: Final = "application/vnd.ollama.image.model"
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_HOST: Final = "registry.ollama.ai"
_NAMESPACE: Final = "library"


@dataclass(frozen=True, slots=True)
class ModelNames:
    """All names of each blob, sorted, as one look at the store found them; `asked` are the blobs it was made for."""

    by_blob: Mapping[str, tuple[str, ...]]
    asked: frozenset[str]
    read_mono: float


def are_names_due(known: ModelNames | None, blobs: Collection[str], *, now_mono: float) -> bool:
    """True when a blob is loaded that no look at the store was made for, or the last look is old. Pure."""
    if not blobs:
        return False
    if known is None or now_mono - known.read_mono >= NAMES_KEPT_S:
        return True
    return any(blob not in known.by_blob and blob not in known.asked for blob in blobs)


def read_model_names(store: Path, blobs: Collection[str], *, mono: float) -> ModelNames:
    """One look at all manifests. What is broken or not ours to read is left out. Blocks while the store does."""
    names: dict[str, set[str]] = {}
    for parts in _manifests(store / "manifests"):
        text = read_text(store.joinpath("manifests", *parts))
        for blob in model_blobs(text):
            names.setdefault(blob, set()).add(shown_name(parts))
    by_blob = {blob: tuple(sorted(found)) for blob, found in names.items()}
    return ModelNames(by_blob, frozenset(blobs), mono)


def model_blobs(manifest: str | None) -> Collection[str]:
    """Digests of the model layers; more than one of a split model. Pure.

    A manifest, shortened: `{"layers":[{"mediaType":"application/vnd.ollama.image.model","digest":"sha256:…"},…]}`.
    """
    try:
        value = json.loads(manifest or "")
    except (ValueError, RecursionError):
        return ()
    layers = value.get("layers") if isinstance(value, dict) else None
    found: list[str] = []
    for layer in layers if isinstance(layers, list) else ():
        if isinstance(layer, dict) and layer.get("mediaType") == _MODEL_LAYER:
            digest = layer.get("digest")
            if isinstance(digest, str) and _DIGEST.fullmatch(digest):
                found.append(digest)
    return found


def shown_name(parts: tuple[str, str, str, str]) -> str:
    """Host, namespace, model and tag as Ollama lists them: `registry.ollama.ai` and `library` are left out. Pure."""
    host, namespace, model, tag = (os.fsencode(part).decode("utf-8", "replace") for part in parts)
    name = f"{model}:{tag}"
    if host.casefold() != _HOST:
        return f"{host}/{namespace}/{name}"
    return name if namespace.casefold() == _NAMESPACE else f"{namespace}/{name}"


def _manifests(folder: Path) -> Iterator[tuple[str, str, str, str]]:
    """Paths `<host>/<namespace>/<model>/<tag>` (facts/ollama.md §8); what lies at another depth is no model."""
    left = MAX_MANIFESTS
    for host in _folders(folder):
        for namespace in _folders(folder / host):
            for model in _folders(folder / host / namespace):
                for tag in _files(folder / host / namespace / model):
                    if left == 0:
                        return
                    left -= 1
                    yield host, namespace, model, tag


def _folders(folder: Path) -> list[str]:
    return [entry.name for entry in _entries(folder) if _is(entry.is_dir)]


def _files(folder: Path) -> list[str]:
    return [entry.name for entry in _entries(folder) if _is(entry.is_file)]


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """In the order of their names, without what is hidden; none where the folder is not ours to see."""
    try:
        with os.scandir(folder) as entries:
            shown = [entry for entry in entries if not entry.name.startswith(".")]
    except OSError:
        return []
    return sorted(shown, key=lambda entry: entry.name)


def _is(look: Callable[[], bool]) -> bool:
    """False too for a link that leads in a circle."""
    try:
        return look()
    except OSError:
        return False
