"""The engine's command and environment: what is passed on, what is held back, what the settings become.

Everything a user sets for the engine himself reaches it unchanged and beats what is derived here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Final

from arasul_supervisor.errors import ArasulError
from arasul_supervisor.ollama.engine_variables import (
    BLANK_IS_UNSET,
    engine_value,
    engine_variable_notes,
    engine_variable_problems,
)
from arasul_supervisor.ollama.generation import LLAMA_SERVER_SINCE, engine_generation, remember_version
from arasul_supervisor.settings import SettingsError, load_settings
from arasul_supervisor.settings.places import home_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from arasul_supervisor.settings import Settings

__all__ = [
    "MARKER_VARIABLE",
    "BadEngineSetting",
    "EngineEnvironment",
    "GpuMemory",
    "cpu_wish",
    "engine_command",
    "engine_environment",
    "engine_generation",
    "engine_setting_problems",
    "load_checked_settings",
    "load_options",
    "remember_version",
]

MARKER_VARIABLE: Final = "ARASUL_MARKER"

_HELD_BACK: Final = frozenset({"NOTIFY_SOCKET", "VIRTUAL_ENV"})
_HELD_BACK_PREFIXES: Final = ("ARASUL_", "LLM_", "WATCHDOG_", "LISTEN_", "SUPERVISOR_", "PYTHON")

_MIB: Final = 1 << 20
_LEAST_FREE_BYTES: Final = 512 * _MIB


class BadEngineSetting(ArasulError):
    """A variable of the engine holds something that it would misread."""

    code: ClassVar[str] = "bad_setting"
    exit_code: ClassVar[int] = 2

    def __init__(self, problems: Sequence[str]) -> None:
        """Tell all of them at once; `problems` has one sentence for each variable."""
        self.problems = tuple(problems)
        super().__init__(" ".join(self.problems))


@dataclass(frozen=True, slots=True)
class GpuMemory:
    """One GPU's memory at the spawn: all of it, and what nobody uses."""

    total_bytes: int
    available_bytes: int


@dataclass(frozen=True, slots=True)
class EngineEnvironment:
    """What the engine is spawned with.

    `derived` are the variables of ours among `variables`; `notes` says in sentences what was decided and what
    has no effect.
    """

    variables: dict[str, str] = field(repr=False)  # holds the user's proxy passwords
    derived: dict[str, str]
    notes: tuple[str, ...]


def load_checked_settings(environ: Mapping[str, str]) -> Settings:
    """The settings, once the variables that only the engine reads were looked at too.

    :raises SettingsError: with one sentence for each wrong variable of both kinds
    """
    engine_problems = engine_setting_problems(environ)
    try:
        settings = load_settings(environ)
    except SettingsError as error:
        raise SettingsError((*error.problems, *engine_problems)) from None
    if engine_problems:
        raise SettingsError(engine_problems)
    return settings


def engine_command(binary: Path) -> tuple[str, ...]:
    """What is executed."""
    return (str(binary), "serve")


def engine_environment(
    settings: Settings,
    environ: Mapping[str, str],
    *,
    version: tuple[int, int, int] | None,
    gpus: Sequence[GpuMemory],
    marker: str,
) -> EngineEnvironment:
    """Everything the engine gets to know.

    :param version: of the engine; None counts as 0.29 or older
    :param gpus: each GPU's memory, in the engine's order; empty where there is none or nothing is known
    :param marker: by which the processes of this life are found again
    :raises BadEngineSetting: when the engine would misread a variable that the user set for it
    """
    problems = engine_setting_problems(environ)
    if problems:
        raise BadEngineSetting(problems)

    variables = _passed_on(environ)
    notes = list(engine_variable_notes(environ))
    derived = {
        MARKER_VARIABLE: marker,
        "OLLAMA_HOST": settings.engine_netloc,
        "OLLAMA_ORIGINS": settings.origins,
    }
    for wish in (*_plain_wishes(settings, environ), *_gpu_wishes(settings, environ, version, gpus)):
        notes.extend(_grant(wish, variables, derived))
    return EngineEnvironment({**variables, **derived}, derived, tuple(notes))


def load_options(settings: Settings, version: tuple[int, int, int] | None) -> dict[str, int]:
    """Runner options for loads made by us: LLM_GPU_LAYERS where the engine has no variable for it (0.29 and older).

    Empty otherwise: an option that differs from the loaded ones makes Ollama load the model anew.
    """
    if settings.gpu_layers is None or (version is not None and version >= LLAMA_SERVER_SINCE):
        return {}
    return {"num_gpu": settings.gpu_layers}


def cpu_wish(settings: Settings, environ: Mapping[str, str]) -> str | None:
    """Why the user wants the engine to compute on the CPU; None: he does not."""
    if settings.gpu_layers == 0:
        return "LLM_GPU_LAYERS is 0"
    return "CUDA_VISIBLE_DEVICES hides every GPU" if _hides_all(environ) else None


def engine_setting_problems(environ: Mapping[str, str]) -> tuple[str, ...]:
    """One sentence for each variable with which no engine would run well; empty when all is fine."""
    problems = list(engine_variable_problems(environ))
    home, _ = home_folder(environ)
    if home is None:
        problems.append(
            "HOME is not set and this user has no passwd entry, and Ollama ends without it: set HOME."
        )
    return tuple(problems)


@dataclass(frozen=True, slots=True)
class _Wish:
    """A variable that a setting asks for, unless the user set it; a value of None leaves it unset."""

    variable: str
    value: str | None
    source: str
    note: str = ""


def _passed_on(environ: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in environ.items()
        if name not in _HELD_BACK
        and not name.startswith(_HELD_BACK_PREFIXES)
        and not (name.startswith(BLANK_IS_UNSET) and engine_value(environ, name) is None)
        and not (name == "HOME" and not value.strip())
    }


def _grant(wish: _Wish, variables: Mapping[str, str], derived: dict[str, str]) -> Iterator[str]:
    """Put the wish among the derived variables unless the user was first; gives the sentence to note."""
    if wish.variable in variables:
        if engine_value(variables, wish.variable) != wish.value:
            yield f"{wish.variable} is set in the environment, so {wish.source} has no effect on it."
        return
    if wish.value is not None:
        derived[wish.variable] = wish.value
    if wish.note:
        yield wish.note


def _plain_wishes(settings: Settings, environ: Mapping[str, str]) -> Iterator[_Wish]:
    """What needs to know nothing of the engine or the GPU."""
    yield _Wish("OLLAMA_CONTEXT_LENGTH", str(settings.context_length), "LLM_CONTEXT_LENGTH")
    # with its unit, which every reader of Ollama takes; a bare number is refused by some (facts: ollama.md §4.2)
    yield _Wish("OLLAMA_KEEP_ALIVE", f"{settings.keep_alive_s}s", "LLM_KEEP_ALIVE_SECONDS")
    yield _Wish("OLLAMA_NOPRUNE", "1", "our wish to keep unfinished downloads over a restart")
    yield _Wish("OLLAMA_NO_CLOUD", "1", "our wish to keep everything on this box")
    home, origin = home_folder(environ)
    if origin != "environment":
        yield _Wish("HOME", str(home), "", f"HOME is not set; the engine gets {home}, from the {origin}.")


def _gpu_wishes(
    settings: Settings,
    environ: Mapping[str, str],
    version: tuple[int, int, int] | None,
    gpus: Sequence[GpuMemory],
) -> Iterator[_Wish]:
    """Layers and the share of memory, which each generation is told in its own way (facts: ollama.md §5)."""
    has_llama_server = version is not None and version >= LLAMA_SERVER_SINCE
    if settings.gpu_layers is not None:
        yield _layers(settings.gpu_layers) if has_llama_server else _layers_by_loads(settings.gpu_layers)

    if not gpus:
        return
    selection = environ.get("CUDA_VISIBLE_DEVICES")
    free_bytes = [_leave_free_bytes(gpu, settings.gpu_memory_fraction) for gpu in gpus]
    if _hides_all(environ):
        variable = "LLAMA_ARG_FIT_TARGET" if has_llama_server else "OLLAMA_GPU_OVERHEAD"
        note = "CUDA_VISIBLE_DEVICES hides every GPU, so OLLAMA_GPU_MEMORY_FRACTION sets nothing."
        yield _Wish(variable, None, "OLLAMA_GPU_MEMORY_FRACTION", note)
    elif has_llama_server:
        # of a selection nobody here knows the order, so one value counts for each device
        yield _fit_target([max(free_bytes)] if selection else free_bytes)
    else:
        yield _overhead(max(free_bytes), min(gpu.total_bytes for gpu in gpus))


def _hides_all(environ: Mapping[str, str]) -> bool:
    selection = environ.get("CUDA_VISIBLE_DEVICES")
    return selection is not None and selection.strip() in {"", "-1"}


def _layers(layers: int) -> _Wish:
    return _Wish("LLAMA_ARG_N_GPU_LAYERS", str(layers), "LLM_GPU_LAYERS")


def _layers_by_loads(layers: int) -> _Wish:
    note = f"Ollama 0.29 and older apply LLM_GPU_LAYERS={layers} only to loads made by this daemon."
    return _Wish("LLAMA_ARG_N_GPU_LAYERS", None, "LLM_GPU_LAYERS", note)


def _leave_free_bytes(gpu: GpuMemory, fraction: float) -> int:
    return max(_LEAST_FREE_BYTES, round(gpu.available_bytes - fraction * gpu.total_bytes))


def _fit_target(free_bytes: Sequence[int]) -> _Wish:
    free_mib = ",".join(str(round(part / _MIB)) for part in free_bytes)
    note = f"The engine leaves {free_mib} MiB of GPU memory free, by OLLAMA_GPU_MEMORY_FRACTION."
    return _Wish("LLAMA_ARG_FIT_TARGET", free_mib, "OLLAMA_GPU_MEMORY_FRACTION", note)


def _overhead(wanted_bytes: int, smallest_gpu_bytes: int) -> _Wish:
    """One value counts for every GPU, and one that the smallest GPU does not have underflows in Ollama."""
    source = "OLLAMA_GPU_MEMORY_FRACTION"
    most_bytes = smallest_gpu_bytes - _LEAST_FREE_BYTES
    if most_bytes <= 0:
        note = f"The smallest GPU has only {smallest_gpu_bytes // _MIB} MiB, so {source} sets nothing."
        return _Wish("OLLAMA_GPU_OVERHEAD", None, source, note)
    free_bytes = min(wanted_bytes, most_bytes)
    limit = ", all that the smallest one can spare" if free_bytes < wanted_bytes else ""
    note = f"The engine leaves {free_bytes // _MIB} MiB of each GPU's memory free{limit}, by {source}."
    return _Wish("OLLAMA_GPU_OVERHEAD", str(free_bytes), source, note)
