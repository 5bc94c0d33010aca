"""Which bytes of the store belong to one model alone, and which it shares. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from arasul_supervisor.model_store.manifests import MODEL_LAYER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from arasul_supervisor.model_store.listing import StoredModel, StoreListing

TENSOR_LAYER: Final = "application/vnd.ollama.image.tensor"  # of safetensors; a GGUF is one model layer
WEIGHTS: Final = frozenset({MODEL_LAYER, TENSOR_LAYER})


@dataclass(frozen=True, slots=True)
class DiskUsage:
    """Bytes on disk of the blobs that only this model names, and of those that others name too.

    A second name of the same model shares all. What is missing is not counted.
    """

    own_bytes: int
    shared_bytes: int


def disk_usage(listing: StoreListing) -> Mapping[str, DiskUsage]:
    """The usage of each model, by the name that Ollama lists."""
    references = _references(listing)
    return {model.name: _usage(model, listing.blob_bytes, references) for model in listing.models}


def own_blobs(listing: StoreListing, model: StoredModel) -> Mapping[str, int]:
    """What goes with this model: the blobs that no other names, by digest, and their bytes on disk."""
    references = _references(listing)
    return {
        layer.digest: listing.blob_bytes[layer.digest]
        for layer in model.manifest.layers
        if references[layer.digest] == 1 and layer.digest in listing.blob_bytes
    }


def weights_of(model: StoredModel) -> frozenset[str]:
    """Digests of its weights; none of a model that runs in the cloud."""
    return frozenset(layer.digest for layer in model.manifest.layers if layer.kind in WEIGHTS)


def sharers(listing: StoreListing, model: StoredModel) -> tuple[str, ...]:
    """Names of the other models that have weights of this one."""
    weights = weights_of(model)
    return tuple(other.name for other in listing.models if other != model and weights & weights_of(other))


def _references(listing: StoreListing) -> Counter[str]:
    return Counter(layer.digest for model in listing.models for layer in model.manifest.layers)


def _usage(model: StoredModel, blob_bytes: Mapping[str, int], references: Counter[str]) -> DiskUsage:
    own_bytes = shared_bytes = 0
    for layer in model.manifest.layers:
        n_bytes = blob_bytes.get(layer.digest, 0)
        if references[layer.digest] == 1:
            own_bytes += n_bytes
        else:
            shared_bytes += n_bytes
    return DiskUsage(own_bytes, shared_bytes)
