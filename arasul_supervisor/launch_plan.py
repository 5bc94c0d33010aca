"""What each generation of the engine is started with, derived anew at every start."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from arasul_supervisor.errors import ArasulError
from arasul_supervisor.ollama.environment import (
    GpuMemory,
    cpu_wish,
    engine_command,
    engine_environment,
    engine_generation,
    load_options,
    remember_version,
)
from arasul_supervisor.settings.places import home_folder
from arasul_supervisor.supervision.child import Launch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from arasul_supervisor.event_log import EventLog
    from arasul_supervisor.logs.spool import SpoolFolder
    from arasul_supervisor.settings import Settings


_STEP_BYTES: Final = 64 << 20
"""Free memory changes by a little all the time, which is no reason to derive the engine's environment anew."""


class EngineMissing(ArasulError):
    """The engine's program is not there any more."""

    code, status = "engine_missing", 503


class LaunchPlan:
    """Makes the launches: command, environment and spool. Reads the settings, never changes them."""

    def __init__(
        self,
        settings: Settings,
        environ: Mapping[str, str],
        *,
        marker: str,
        spools: SpoolFolder,
        gpus: Callable[[], Sequence[GpuMemory]],
        log: EventLog,
    ) -> None:
        """Launch nothing yet.

        :param gpus: the memory of each GPU as it is known at that start; empty where nothing is
        """
        self._settings, self._environ, self._marker = settings, environ, marker
        self._spools, self._gpus, self._log = spools, gpus, log
        self._told: tuple[str, ...] = ()
        self._noted: str | None = None
        self._derived: Mapping[str, str] | None = None
        self._derived_for: tuple[object, ...] | None = None

    @property
    def engine_version(self) -> tuple[int, int, int] | None:
        """The engine's version as far as it is known without running it."""
        binary = self._settings.engine_binary
        return engine_generation(binary, self._settings.state_dir) if binary else None

    @property
    def model_store(self) -> Path | None:
        """The folder that the engine keeps its models in: OLLAMA_MODELS, else the one below its home."""
        if self._environ.get("OLLAMA_MODELS", "").strip():
            return Path(self._environ["OLLAMA_MODELS"].strip())
        home, _ = home_folder(self._environ)
        return home / ".ollama" / "models" if home else None

    @property
    def cpu_wish(self) -> str | None:
        """Why the engine is meant to leave the GPU alone; None: it is not."""
        return cpu_wish(self._settings, self._environ)

    def prepare(self, generation: int) -> Launch:
        """The launch of that generation.

        :raises ArasulError: there is no engine, or a setting that it would misread
        """
        binary = self._settings.engine_binary
        seen = _status(binary)
        if binary is None or seen is None:
            raise EngineMissing(
                f"There is no engine at {binary or 'any known place'}.",
                hint="Install Ollama, or set ARASUL_OLLAMA to its program.",
            )
        memory = [(gpu.total_bytes, gpu.available_bytes // _STEP_BYTES) for gpu in self._gpus()]
        identity = (seen.st_mtime_ns, seen.st_size, *memory)
        if (
            self._derived is None or self._derived_for != identity
        ):  # 0.4 ms, which a restart need not pay again
            self._derived, self._derived_for = self._derive(), identity
        return Launch(engine_command(binary), self._derived, self._spools.path_for(generation))

    def load_options(self) -> dict[str, int]:
        """Runner options for loads made by us, for the engine that is known now."""
        return load_options(self._settings, self.engine_version)

    def make_ready_for(self, generation: int) -> None:
        """Do now what that generation's start need not do, should it come."""
        self._spools.make_ahead(generation)

    def note_version(self, version: str | None) -> None:
        """Remember what the engine calls itself: the next start derives its settings for that generation."""
        if version is not None and version != self._noted and self._settings.engine_binary is not None:
            self._noted, self._derived = version, None
            remember_version(self._settings.engine_binary, self._settings.state_dir, version)

    def _derive(self) -> Mapping[str, str]:
        environment = engine_environment(
            self._settings,
            self._environ,
            version=self.engine_version,
            gpus=self._gpus(),
            marker=self._marker,
        )
        self._tell(environment.notes)
        return environment.variables

    def _tell(self, notes: tuple[str, ...]) -> None:
        for note in notes:
            if note not in self._told:
                self._log.info("engine_setting", note=note)
        self._told = notes


def _status(binary: Path | None) -> os.stat_result | None:
    """The program's status; None where there is no such file."""
    if binary is None:
        return None
    try:
        seen = os.stat(binary)
    except OSError:
        return None
    return seen if stat.S_ISREG(seen.st_mode) else None
