"""What the owners of jobs do at their ends, whatever the jobs do."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol, TypeVar

from arasul_supervisor.errors import ArasulError

if TYPE_CHECKING:
    from collections.abc import Iterable


class Job(Protocol):
    """As much of a job as is needed here."""

    @property
    def is_active(self) -> bool: ...
    @property
    def finished_at(self) -> float | None: ...
    def fail(self, error: ArasulError) -> None: ...


J = TypeVar("J", bound=Job)


def oldest_ended(jobs: Iterable[J], *, kept: int) -> list[J]:
    """Those that ended before the last so many, by their ends: to be forgotten."""
    ended = sorted((job for job in jobs if not job.is_active), key=lambda job: job.finished_at or 0.0)
    return ended[: max(0, len(ended) - kept)]


def fail_by(error: BaseException, job: Job, task: asyncio.Task[None], *, what: str) -> None:
    """A task of the job ended by an error: it fails; what nobody foresaw also goes to the loop's handler.

    :param what: as it begins a sentence: `Pulling 'tiny'`
    """
    if isinstance(error, ArasulError):
        job.fail(error)
        return
    job.fail(ArasulError(f"{what} ended by a fault of this daemon: {type(error).__name__}."))
    asyncio.get_running_loop().call_exception_handler(
        {"message": f"{what} ended by a fault", "exception": error, "task": task}
    )
