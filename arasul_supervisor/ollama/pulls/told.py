"""What the watchers of a pull are told beside Ollama's own lines: pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from arasul_supervisor.errors import ArasulError
    from arasul_supervisor.ollama.job_view import JobView
    from arasul_supervisor.ollama.pulls.progress import PullProgress


def with_figures(line: Mapping[str, object], view: JobView) -> Mapping[str, object]:
    """The line with what Ollama's own do not say: how far the whole pull is."""
    job = {
        "id": view.id,
        "state": view.state.value,
        "attempt": view.attempts,
        "layer": view.layer_number,
        "layers": view.layers,
        "total": view.total,
        "completed": view.completed,
        "speed_bytes_per_s": _rounded(view.speed_bytes_per_s),
        "eta_s": _rounded(view.eta_s),
    }
    return {**line, "job": job}


def retry_line(error: ArasulError, wait_s: float) -> Mapping[str, object]:
    """An attempt failed, and another follows after that many seconds."""
    return {"status": "waiting to retry", "reason": error.sentence, "retry_in_s": round(wait_s, 1)}


def resuming_line(setback: ArasulError | None, attempt: int, progress: PullProgress) -> Mapping[str, object]:
    """Another attempt begins with so many bytes of the whole pull; without a setback in this life of the daemon, it
    is the restart of the daemon that made it necessary."""
    return {
        "status": "resuming",
        "reason": setback.sentence if setback else "The daemon was started anew.",
        "attempt": attempt,
        "total": progress.total_bytes,
        "completed": progress.completed_bytes,
    }


def error_line(error: ArasulError) -> Mapping[str, object]:
    """The last line of a pull that did not succeed."""
    return {"error": error.sentence, "code": error.code}


def _rounded(figure: float | None) -> float | None:
    return None if figure is None else round(figure, 1)
