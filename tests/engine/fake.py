"""The test's end of the fake engine: where its wrapper lies, what it is told, what it noted."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).with_name("fake_ollama.py")


@dataclass(frozen=True, slots=True)
class FakeEngine:
    """One folder with an executable `ollama` that is the fake, and the files through which it is steered."""

    folder: Path

    @property
    def binary(self) -> Path:
        """What ARASUL_OLLAMA points to."""
        return self.folder / "bin" / "ollama"

    def behind_a_script(self) -> Path:
        """Another program for ARASUL_OLLAMA: a shell that waits for the fake one, which is its child."""
        script = self.folder / "wrapped"
        script.write_text(f'#!/bin/sh\n"{self.binary}" "$@"\nexit $?\n')
        script.chmod(0o755)
        return script

    def environment(self, modes: str = "", **more: str) -> dict[str, str]:
        """Variables for a daemon whose engine behaves as `modes` says (grammar in fake_ollama.py)."""
        files = {
            name.upper(): str(self.folder / name) for name in ("lives", "control", "dump", "pids", "requests")
        }
        orders = {f"FAKE_OLLAMA_{name}": path for name, path in files.items()}
        return {"ARASUL_OLLAMA": str(self.binary), "FAKE_OLLAMA": modes, **orders, **more}

    def control(self, modes: str) -> None:
        """Change the modes of the running engine; an empty text gives it back to its own."""
        path = self.folder / "control"
        path.with_suffix(".new").write_text(modes, encoding="utf-8")
        path.with_suffix(".new").replace(path)

    def lives(self) -> list[int]:
        """The pid of each start so far."""
        return self._numbers("lives")

    def pids(self) -> list[int]:
        """The pid of every process that the engine was or made (those of a storm excepted)."""
        return self._numbers("pids")

    def requests(self) -> list[dict[str, Any]]:  # Any: what the fake wrote, looked into by tests
        """What the engine was asked, over all lives: method, target, headers, body, pid, at."""
        path = self.folder / "requests"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def dump(self) -> dict[str, Any]:  # Any: what the fake wrote, looked into by tests
        """What the newest life saw at its start: environ, argv, pid, pgid, sid, cwd, fds, blocked signals."""
        seen: dict[str, Any] = json.loads((self.folder / "dump").read_text())
        return seen

    def _numbers(self, name: str) -> list[int]:
        path = self.folder / name
        return [int(line) for line in path.read_text().split()] if path.exists() else []


def make_fake_engine(folder: Path) -> FakeEngine:
    """Write the wrapper script into the folder."""
    engine = FakeEngine(folder)
    engine.binary.parent.mkdir(parents=True)
    python = os.path.realpath(sys.executable)
    engine.binary.write_text(f"#!/bin/sh\nexec '{python}' -S -E -s '{PROGRAM}' \"$@\"\n", encoding="utf-8")
    engine.binary.chmod(0o755)
    # looked for beside the binary by whoever asks whether this engine can load models
    library = folder / "lib" / "ollama" / "llama-server"
    library.parent.mkdir(parents=True)
    library.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    library.chmod(0o755)
    return engine


@pytest.fixture
def fake_engine(tmp_path: Path) -> FakeEngine:
    """A fake engine of this test's own."""
    return make_fake_engine(tmp_path / "fake")
