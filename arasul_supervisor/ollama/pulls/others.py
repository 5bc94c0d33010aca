"""What the other pulls want: of the disk, of the names, of the layers. Only reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from arasul_supervisor.ollama.job_view import JobState
from arasul_supervisor.ollama.names import same_model

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from arasul_supervisor.ollama.pulls.job import PullJob


# Below it (licences, templates, parameters) a layer is there before anybody could leave.
SHARED_FROM_BYTES: Final = 1024 * 1024


class Others:
    """The pulls beside one of them."""

    def __init__(self, jobs: Mapping[str, PullJob]) -> None:
        """Look at the owner's own mapping, by id."""
        self._jobs = jobs

    def remaining_bytes(self, asking: PullJob) -> int:
        """What those that room was promised to will still write, but for the layers of the asking one."""
        counted = set(asking.progress.digests)
        remaining_bytes = 0
        for job in self._active(asking):
            if job.holds_room:
                fresh = [digest for digest in job.progress.digests if digest not in counted]
                remaining_bytes += sum(map(job.progress.remaining_of, fresh))
                counted.update(fresh)
        return remaining_bytes

    def fetched_digests(self, asking: PullJob) -> frozenset[str]:
        """Layers that Ollama may be writing now for another pull."""
        return frozenset(digest for job in self._fetching(asking) for digest in job.digests)

    def digests(self, asking: PullJob | None) -> frozenset[str]:
        """Layers that active pulls fetch."""
        return frozenset(digest for job in self._active(asking) for digest in job.digests)

    def fetching_the_same(self, asking: PullJob, lacking: Collection[str]) -> PullJob | None:
        """A pull for which Ollama is fetching a layer that the asking one lacks too, or the same tag."""
        large = [layer.digest for layer in asking.progress.layers if layer.size_bytes >= SHARED_FROM_BYTES]
        shared = [digest for digest in large if digest in lacking]
        real = asking.order.real
        return next(
            (
                job
                for job in self._fetching(asking)
                if same_model(job.order.real, real) or any(map(job.progress.lacks, shared))
            ),
            None,
        )

    def want(self, name: str, asking: PullJob) -> bool:
        """True when another job needs that name to stay: it pulls it, by whatever name, or has just done so."""
        return any(
            _needs(job, name) if job.is_active else self._has_brought(job, name, asking)
            for job in self._jobs.values()
            if job is not asking
        )

    def brings_anew(self, real: str, asking: PullJob) -> bool:
        """True when another alias's pull under way found that tag missing: it is no model of the user's."""
        return any(
            job.order.is_alias and job.real_was_there is False and same_model(job.order.real, real)
            for job in self._active(asking)
        )

    def _has_brought(self, job: PullJob, name: str, asking: PullJob) -> bool:
        is_since_asked = (job.finished_at or 0.0) >= asking.order.created_at
        return job.state is JobState.DONE and is_since_asked and same_model(job.model, name)

    def _fetching(self, asking: PullJob) -> Iterator[PullJob]:
        """Also one that was cancelled and whose stream is not closed yet."""
        return (job for job in self._jobs.values() if not job.is_idle.is_set() and job is not asking)

    def _active(self, asking: PullJob | None) -> Iterator[PullJob]:
        return (job for job in self._jobs.values() if job.is_active and job is not asking)


def _needs(job: PullJob, name: str) -> bool:
    return same_model(job.model, name) or (job.needs_real and same_model(job.order.real, name))
