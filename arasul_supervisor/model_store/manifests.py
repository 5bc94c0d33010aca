"""What a manifest says: the layers of one model. Pure.

`{"schemaVersion":2,…,"config":{"mediaType":"…container.image.v1+json","digest":"sha256:…","size":N},
"layers":[{"mediaType":"application/vnd.ollama.image.model","digest":"sha256:…","size":N}]}` (facts/ollama.md §8); the
same text lies in the store and comes from a registry.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Final

MODEL_LAYER: Final = "application/vnd.ollama.image.model"
MAX_LAYERS: Final = 10_000  # a safetensors model has one for each tensor
DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Layer:
    """One blob of a model: `sha256:<64 hex>`, its length, and its media type."""

    digest: str
    size_bytes: int
    kind: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """The layers in the order in which Ollama fetches them: the config last. A blob named twice is there once."""

    layers: tuple[Layer, ...]
    config_digest: str | None = None

    @property
    def size_bytes(self) -> int:
        """Sum of the layers."""
        return sum(layer.size_bytes for layer in self.layers)


def parse_manifest(content: bytes) -> Manifest:
    """The manifest.

    :raises ValueError: with what is wrong with it, as it follows "the manifest "
    """
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        raise ValueError("is no JSON" if content.strip() else "is empty") from None
    raw_layers = value.get("layers") if isinstance(value, dict) else None
    if not isinstance(raw_layers, list):
        raise ValueError("names no layers")
    if len(raw_layers) > MAX_LAYERS:
        raise ValueError(f"names more than {MAX_LAYERS} layers")
    config = value.get("config")
    layers = {layer.digest: layer for layer in map(_layer, raw_layers)}
    config_digest = None
    if isinstance(config, dict) and config.get("digest"):
        last = _layer(config)
        layers.setdefault(last.digest, last)
        config_digest = last.digest
    return Manifest(tuple(layers.values()), config_digest)


def _layer(value: object) -> Layer:
    if not isinstance(value, dict):
        raise ValueError("names a layer that is no object")
    digest, size, kind = value.get("digest"), value.get("size"), value.get("mediaType")
    if not isinstance(digest, str) or not DIGEST.fullmatch(digest):
        raise ValueError("names a layer without a sha256 digest")
    if isinstance(size, bool) or not isinstance(size, int) or size < 0:
        raise ValueError("names a layer without a size")
    return Layer(digest, size, kind if isinstance(kind, str) else "")
