"""Watching a pull of the daemon: one report of it, or all that it takes until the model is there."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from arasul_supervisor.cli.bodies import part, word
from arasul_supervisor.cli.client import DaemonError, Refused, Silent, Unreachable, refusal_in
from arasul_supervisor.cli.jobs import DONE, UNDER_WAY, job_path, newest_pull

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from arasul_supervisor.cli.client import Daemon
    from arasul_supervisor.cli.pull_progress import Progress

    T = TypeVar("T")

PULL: Final = "/api/models/pull"
SUCCESS: Final = "success"
BROKEN_OFF: Final = "The daemon's report of the pull broke off."
SILENCE_S: Final = 60.0  # a large layer is verified for minutes without a word
RECONNECT_S: Final = 1.0
FULL_DISK_POLL_S: Final = 4.0  # and RECONNECT_S before each look
DISK_FULL: Final = "disk_full"
PASSING: Final = (DISK_FULL, "engine_down", "engine_silent")
PARKED: Final = "retrying"
LOST: Final = {"failed": "failed", "cancelled": "been cancelled"}


class Wish(NamedTuple):
    """What to pull."""

    name: str
    is_insecure: bool

    def body(self, **further: bool) -> Mapping[str, object]:
        """The body of the request."""
        return {"model": self.name, **({"insecure": True} if self.is_insecure else {}), **further}


class Patience:
    """Says what is waited for, each thing once until it is over."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._told: set[str] = set()

    def tell(self, problem: DaemonError) -> None:
        """It is away, or full."""
        if problem.sentence not in self._told:
            self._say(f"{problem.sentence} Waiting for {'room' if _is_disk_full(problem) else 'it'}.")
        self._told.add(problem.sentence)

    def end(self) -> None:
        """It is back."""
        self._told.clear()


def watch_pull(daemon: Daemon, wish: Wish, progress: Progress) -> None:
    """Shows one report to its end, which must be a success.

    :raises DaemonError: the pull failed, or nobody knows, for the report broke off
    """
    last: Mapping[str, object] = {}
    joining = f"The pull may go on; `arasul-supervisor pull {wish.name}` joins it."
    try:
        for last in _lines(daemon, wish):
            progress.show(last)
    except DaemonError as problem:
        if not last:
            raise
        raise DaemonError(problem.sentence, hint=joining) from None
    if "error" in last:
        raise refusal_in(last, otherwise=str(last["error"]))
    if last.get("status") != SUCCESS:
        raise DaemonError(BROKEN_OFF, hint=joining)


def wait_for_model(daemon: Daemon, wish: Wish, progress: Progress) -> None:
    """Shows report after report until the model is there, whatever happens to daemon, engine and disk meanwhile.

    :raises DaemonError: the pull failed or was cancelled, or the daemon refuses it
    """
    patience = Patience(progress.tell)
    job_id = ""
    while True:
        told_id, setback = _report(daemon, wish, progress, patience)
        if setback is None:
            return
        job_id = told_id or job_id
        patience.tell(setback)
        if _is_done_meanwhile(daemon, wish.name, job_id, setback, patience):
            return


def patiently(ask: Callable[[], T], patience: Patience) -> T:
    """The answer, once there is a daemon that gives one."""
    while True:
        try:
            return ask()
        except (Unreachable, Silent) as problem:
            patience.tell(problem)
        time.sleep(RECONNECT_S)


def _lines(daemon: Daemon, wish: Wish) -> Iterator[Mapping[str, object]]:
    """The lines of the pull to the last one.

    A silent stream is taken up anew once the daemon showed that it lives: who asks for a model that is being
    pulled joins that pull.
    """
    while True:
        try:
            yield from daemon.stream("POST", PULL, body=wish.body(stream=True), timeout_s=SILENCE_S)
        except Silent:
            daemon.get("/livez")
        else:
            return


def _report(
    daemon: Daemon, wish: Wish, progress: Progress, patience: Patience
) -> tuple[str, DaemonError | None]:
    """Shows one report: the job's id where it was told, and what kept the report from success.

    :raises DaemonError: what no waiting cures
    """
    last: Mapping[str, object] = {}
    job_id = ""
    try:
        for last in _lines(daemon, wish):
            patience.end()
            progress.show(last)
            job_id = word(part(last, "job"), "id") or job_id
    except DaemonError as problem:
        has_begun = bool(last) and not isinstance(problem, Refused)  # then it was a daemon, and broke off
        if not has_begun and not _may_pass(problem):
            raise
        return job_id, problem
    if "error" not in last:
        return job_id, None if last.get("status") == SUCCESS else DaemonError(BROKEN_OFF)
    failure = refusal_in(last, otherwise=str(last["error"]))
    if not _may_pass(failure):
        raise failure
    return job_id, failure


def _is_done_meanwhile(
    daemon: Daemon, name: str, job_id: str, setback: DaemonError, patience: Patience
) -> bool:
    """Waits until asking for the pull again makes sense; True when there is no need to, for it is done.

    To ask for a pull that ended meanwhile would begin it anew: so the job is looked at first.

    :raises DaemonError: it failed, was cancelled, or nobody tries again although the disk is full
    """
    while True:
        time.sleep(RECONNECT_S)
        try:
            job = daemon.get(job_path(job_id)) if job_id else newest_pull(daemon, name, states=UNDER_WAY)
        except Refused:  # such as a daemon that forgot it
            job = None
        except DaemonError as problem:
            patience.tell(problem)
            continue
        if job is None and _is_disk_full(setback):
            raise setback
        state = word(job or {}, "state")
        if state in LOST:
            raise DaemonError(word(job or {}, "error") or f"The pull of {name} has {LOST[state]}.")
        if state != PARKED or not _is_disk_full(setback):
            return state == DONE
        time.sleep(FULL_DISK_POLL_S)


def _may_pass(problem: DaemonError) -> bool:
    return isinstance(problem, (Unreachable, Silent)) or (
        isinstance(problem, Refused) and problem.key in PASSING
    )


def _is_disk_full(problem: DaemonError) -> bool:
    return isinstance(problem, Refused) and problem.key == DISK_FULL
