"""A job of the daemon (a pull, a check) in figures and words. Pure; any key may be missing, null or strange."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from arasul_supervisor.cli.bodies import number, printable, word
from arasul_supervisor.cli.output import duration_text, size_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from arasul_supervisor.cli.bodies import Body

RETRY: Final = "waiting to retry"
RESUMING: Final = "resuming"


class JobFigures(NamedTuple):  # not a dataclass: importing dataclasses costs each command 9 ms
    """How far a job is; bytes are of all layers, `total_bytes` None when there are none or it is not known.

    `layer` is the one under way, counted from 1.
    """

    state: str
    attempt: int
    layer: int | None
    layers: int | None
    total_bytes: int | None
    completed_bytes: int
    speed_bytes_per_s: float | None
    eta_s: float | None

    @property
    def percent(self) -> int | None:
        """Rounded down, so that 100 means all of it."""
        return None if not self.total_bytes else self.completed_bytes * 100 // self.total_bytes


def figures_of(job: Body) -> JobFigures:
    """The figures of a job of the list, or of the `job` in a line of a pull's stream.

    The list has the digest under way in `layer` and its number in `layer_number`, the stream its number in `layer`.
    """
    total, completed = (_count(job, key) or 0 for key in ("total", "completed"))
    return JobFigures(
        state=word(job, "state"),
        attempt=_count(job, "attempt", "attempts") or 0,
        layer=_count(job, "layer_number", "layer"),
        layers=_count(job, "layers"),
        total_bytes=total if total > 0 else None,
        completed_bytes=min(completed, total) if total > 0 else completed,
        speed_bytes_per_s=number(job, "speed_bytes_per_s"),
        eta_s=number(job, "eta_s"),
    )


def line_of(job: Body) -> Mapping[str, object]:
    """A job that was asked for, in the shape of a line of a pull's stream; with figures while a layer is under way."""
    line: dict[str, object] = {"status": word(job, "status") or word(job, "state"), "job": job}
    if job.get("layer") is not None:
        line |= {"total": job.get("total"), "completed": job.get("completed")}
    return line


def layer_of(line: Body) -> tuple[int, int] | None:
    """Bytes so far and in all when the line speaks of a layer; None for a plain status."""
    total, completed = line.get("total"), line.get("completed", 0)
    if not isinstance(total, int) or not isinstance(completed, int) or total <= 0:
        return None
    return min(completed, total), total


def setback_text(line: Body) -> str | None:
    """What a line says of a failed attempt, or of the one that follows it; None for all other lines.

    `waiting to retry in 4 s: The registry …`, then `resuming: attempt 2, 30 % of 15.7 GB`.
    """
    status, reason = word(line, "status"), word(line, "reason")
    if status == RETRY:
        wait_s = number(line, "retry_in_s")
        return _sentence(status + (f" in {duration_text(wait_s)}" if wait_s is not None else ""), reason)
    if status != RESUMING:
        return None
    attempt, done = number(line, "attempt"), layer_of(line)
    if attempt is None:  # a daemon that says nothing before it resumes
        return _sentence(status, reason)
    share = f", {done[0] * 100 // done[1]} % of {size_text(done[1])}" if done else ""
    return f"{status}: attempt {attempt:.0f}{share}"


def pace_text(figures: JobFigures) -> str:
    """`12.3 MB/s, 3 min 20 s left`; nothing while nothing is known."""
    return ", ".join(_pace(figures))


def step_text(figures: JobFigures) -> str:
    """`layer 2 of 5, attempt 2`; a first attempt is not worth a word."""
    return ", ".join(_steps(figures))


def broken_lines(body: Body) -> Iterator[str]:
    """`NAME: what is wrong with it` for each entry of `broken`."""
    entries = body.get("broken")
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict):
            yield printable(
                f"{word(entry, 'name') or 'unknown'}: {word(entry, 'reason') or 'no reason given'}"
            )


def _sentence(status: str, reason: str) -> str:
    return f"{status}: {reason}" if reason else status


def _pace(figures: JobFigures) -> Iterator[str]:
    if figures.speed_bytes_per_s is not None:
        yield f"{size_text(figures.speed_bytes_per_s)}/s"
    if figures.eta_s is not None:
        yield f"{duration_text(figures.eta_s)} left"


def _steps(figures: JobFigures) -> Iterator[str]:
    if figures.layer is not None:
        yield f"layer {figures.layer}" + (f" of {figures.layers}" if figures.layers is not None else "")
    if figures.attempt > 1:
        yield f"attempt {figures.attempt}"


def _count(job: Body, *keys: str) -> int | None:
    """The first of these that is a number."""
    counts = (number(job, key) for key in keys)
    return next((int(count) for count in counts if count is not None), None)
