"""What Ollama says of its models, as values without its habits of spelling."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class InstalledModel:
    """One line of `/api/tags`. `size_bytes` is the sum of the layers; `digest` is `sha256:<64 hex>`.

    `format`: `gguf` or `safetensors`; None of a model that runs in the cloud, which has a `remote_host` instead.
    `families`: `("mllama",)` and the like tell vision where `capabilities` are unknown: ≤ 0.24 does not give them.
    `parent`: the model that it was made from.
    """

    name: str
    size_bytes: int
    modified_at: str
    digest: str
    format: str | None = None
    family: str | None = None
    parameter_size: str | None = None
    quantization: str | None = None
    families: tuple[str, ...] | None = None
    capabilities: tuple[str, ...] | None = None
    context_length: int | None = None
    embedding_length: int | None = None
    remote_model: str | None = None
    remote_host: str | None = None
    parent: str | None = None


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """One line of `/api/ps`. `size_bytes` may be 0 on a box without a GPU (facts/ollama.md §3.2)."""

    name: str
    size_bytes: int
    size_vram_bytes: int
    context_length: int | None
    expires_at: str
    digest: str

    @property
    def gpu_percent(self) -> float | None:
        """Share of the model that lies on the GPU; null when Ollama gives its size as 0."""
        if self.size_bytes == 0:
            return None
        return round(min(1.0, self.size_vram_bytes / self.size_bytes) * 100, 1)
