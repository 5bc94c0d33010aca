"""What a manifest says: the layers of one model. Pure.

`{"schemaVersion":2,…,"config":{"mediaType":"…container.image.v1+json","digest":"sha256:…","size":N},
"layers":[{"mediaType":"application/vnd.ollama.image.model","digest":"sha256:…","size":N}]}` (facts/ollama.md §8); the
same text lies in the store and comes from a registry.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec

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


class _Layer(msgspec.Struct):
    digest: Annotated[str, msgspec.Meta(pattern=f"^{DIGEST.pattern}$")]
    size: Annotated[int, msgspec.Meta(ge=0)]
    kind: str = msgspec.field(default="", name="mediaType")


class _Config(msgspec.Struct):
    digest: str = ""
    size: int = 0
    kind: str = msgspec.field(default="", name="mediaType")


class _Manifest(msgspec.Struct):
    # null is what Ollama writes of a model that runs in the cloud
    layers: list[_Layer] | None = None
    config: _Config | None = None


_DECODER: Final = msgspec.json.Decoder(_Manifest)


def parse_manifest(content: bytes) -> Manifest:
    """The manifest.

    :raises ValueError: with what is wrong with it, as it follows "the manifest "
    """
    if not content.strip():
        raise ValueError("is empty")
    try:
        found = _DECODER.decode(content)
    except msgspec.ValidationError as error:
        raise ValueError(f"is not as Ollama writes it: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ValueError("is no JSON") from None
    config = found.config if found.config is not None and found.config.digest else None
    if found.layers is None and config is None:
        raise ValueError("names no layers")
    if len(found.layers or ()) > MAX_LAYERS:
        raise ValueError(f"names more than {MAX_LAYERS} layers")
    layers = {raw.digest: Layer(raw.digest, raw.size, raw.kind) for raw in found.layers or ()}
    if config is not None:
        if not DIGEST.fullmatch(config.digest) or config.size < 0:
            raise ValueError("names a configuration without a sha256 digest or a size")
        layers.setdefault(config.digest, Layer(config.digest, config.size, config.kind))
    return Manifest(tuple(layers.values()), config.digest if config is not None else None)
