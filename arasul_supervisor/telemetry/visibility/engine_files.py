"""Which GPU libraries lie beside the engine's binary. Looks only."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from arasul_supervisor.telemetry.files import names_in

if TYPE_CHECKING:
    from collections.abc import Iterator

LLAMA_SERVER_SINCE: Final = (0, 30, 0)


@dataclass(frozen=True, slots=True)
class EngineFiles:
    """The engine. `backends` are the folders of GPU libraries, such as `cuda_v12`; `top` marks those beside them all.

    `version` None: 0.29 or older, or not known. `library_folder` None: the engine has none.
    """

    binary: Path | None
    version: tuple[int, int, int] | None
    library_folder: Path | None
    backends: frozenset[str]
    has_llama_server: bool

    @property
    def has_cuda(self) -> bool:
        """Some CUDA library is there, of whatever version."""
        return any(name.startswith(("cuda", "top:cuda")) for name in self.backends)

    @property
    def is_new(self) -> bool:
        """Of the generation that runs models in llama-server."""
        return self.version is not None and self.version >= LLAMA_SERVER_SINCE


def read_engine_files(binary: Path | None, version: tuple[int, int, int] | None) -> EngineFiles:
    """What lies where Ollama looks: `../lib/ollama`, then `lib/ollama`, beside the real file (ml/path.go of 0.34)."""
    if binary is None:
        return EngineFiles(None, None, None, frozenset(), has_llama_server=False)
    home = Path(os.path.realpath(binary)).parent
    folders = (home.parent / "lib/ollama", home / "lib/ollama")
    folder = next((folder for folder in folders if os.path.isdir(folder)), None)
    places = (home, *(() if folder is None else (folder,)))
    return EngineFiles(
        binary=binary,
        version=version,
        library_folder=folder,
        backends=frozenset(_backends(folder)) if folder else frozenset(),
        has_llama_server=any(os.path.isfile(place / "llama-server") for place in places),
    )


def _backends(folder: Path) -> Iterator[str]:
    for name in names_in(folder):
        if any("ggml-" in file for file in names_in(folder / name)):
            yield name
        for kind in ("cuda", "vulkan", "hip"):
            if name.startswith(f"libggml-{kind}."):
                yield f"top:{kind}"
