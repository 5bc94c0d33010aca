"""The real Ollama with a tiny model, for what is measured below the daemon."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bench.restarts.real_engine import find_ollama
from tests.engine.store import install_model
from tests.engine.tiny_gguf import NORMAL, write_gguf

if TYPE_CHECKING:
    from pathlib import Path

    from bench.figures import Outcome

MODEL: Final = "tiny"


def ollama_or_remark(outcome: Outcome) -> Path | None:
    """The program; where there is none, the remarks say so."""
    found = find_ollama()
    if found is None:
        outcome.remarks.append("NOT MEASURED with the real Ollama: there is none (`make ollama`).")
    return found


def make_store(folder: Path) -> Path:
    """A model store that holds `tiny`, of 451 kB."""
    install_model(folder / "store", MODEL, write_gguf(folder / "tiny.gguf", NORMAL))
    return folder / "store"
