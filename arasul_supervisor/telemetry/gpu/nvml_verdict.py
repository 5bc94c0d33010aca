"""What NVIDIA's own library says when it is asked once, in a child that may hang instead of us."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from arasul_supervisor.telemetry.gpu.bounded_child import lines_of
from arasul_supervisor.telemetry.gpu.launch import child_command, folder_of_module
from arasul_supervisor.telemetry.gpu.nvml_lines import readings_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from arasul_supervisor.telemetry.gpu.readings import GpuReading

ANSWERED: Final = "answered"
REFUSED: Final = "refused"
SILENT: Final = "silent"
DIED: Final = "died"
NOT_ASKED: Final = "not_asked"


@dataclass(frozen=True, slots=True)
class NvmlVerdict:
    """How the question ended. `code` is NVML's own, 0 when it answered; `library` the version that was loaded."""

    outcome: str
    code: int = 0
    library: str | None = None
    readings: tuple[GpuReading, ...] = ()
    has_bindings: bool = True


def nvml_verdict(
    *,
    timeout_s: float,
    environ: Mapping[str, str] | None = None,
    gives_up: Callable[[], bool] = lambda: False,
) -> NvmlVerdict:
    """Ask once; call it from the main thread. An idle card that nobody holds takes seconds to wake.

    A child that hangs is left behind as an orphan: the daemon's reaper buries it.

    :param environ: the child's whole environment; ours when None
    :param gives_up: asked ten times a second whether the answer is still wanted
    """
    folder = folder_of_module("pynvml")
    if not folder:
        return NvmlVerdict(NOT_ASKED, has_bindings=False)
    library: str | None = None
    try:
        with lines_of(
            child_command("nvml", (folder,)), timeout_s=timeout_s, environ=environ, gives_up=gives_up
        ) as lines:
            for text in lines:
                line: dict[str, Any] = json.loads(text)  # Any: JSON of our own child
                if line["kind"] == "ready":
                    library = line.get("library")
                    continue
                if line["kind"] == "failed":
                    return NvmlVerdict(
                        REFUSED, line["code"], line.get("library"), has_bindings=bool(line.get("bindings"))
                    )
                if line["code"]:
                    return NvmlVerdict(REFUSED, line["code"], library)
                return NvmlVerdict(ANSWERED, 0, library, readings_of(line))
            return NvmlVerdict(DIED if lines.has_ended else SILENT, library=library)
    except OSError:
        return NvmlVerdict(NOT_ASKED)
    except (ValueError, KeyError):
        return NvmlVerdict(DIED, library=library)
