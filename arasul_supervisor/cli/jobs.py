"""The jobs of the daemon, as the commands ask for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from arasul_supervisor.cli.bodies import word
from arasul_supervisor.cli.client import objects

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from arasul_supervisor.cli.client import Daemon

JOBS: Final = "/api/models/pulls"
UNDER_WAY: Final = ("queued", "running", "retrying")
DONE: Final = "done"
NO_SUCH_JOB: Final = "pull_not_found"
ENDED_SHORT: Final = ("failed", "cancelled")


def job_path(job_id: str) -> str:
    """Where the API has that job."""
    return f"{JOBS}/{quote(job_id, safe='')}"


def newest_pull(daemon: Daemon, name: str, *, states: Collection[str]) -> Mapping[str, object] | None:
    """The newest pull of that model in one of these states.

    :raises DaemonError: when the daemon does not tell its jobs
    """
    from arasul_supervisor.ollama.names import same_model  # all settings come with it: 18 ms

    pulls = (job for job in objects(daemon.get(JOBS), "pulls") if job.get("kind", "pull") == "pull")
    return next(
        (job for job in pulls if job.get("state") in states and same_model(word(job, "model"), name)), None
    )
