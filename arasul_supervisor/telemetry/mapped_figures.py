"""What is read through the lock of a process's address space: which model a runner has mapped, and the PSS of each.

A process that a driver holds up can keep that lock for ever. Hence in a thread of its own, and only when there is
something to read: the other figures never wait for these.
"""

from __future__ import annotations

import re
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from arasul_supervisor.offload import Offload
from arasul_supervisor.telemetry.process_files import PROC, read_argv, read_pss_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from arasul_supervisor.telemetry.process_figures import Identity

PSS_PERIOD_S: Final = 60.0
COST_RATIO: Final = (
    1000.0  # a round of PSS costs at most a thousandth of one processor, however large the models
)
_BLOB: Final = re.compile(r"sha256-([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class RunnerModel:
    """What stands after `--model`: the digest `sha256:…` of its file; None where that is no blob of a store."""

    blob: str | None


@dataclass(frozen=True, slots=True)
class PssRound:
    """The PSS of all processes at one instant, None where it is not ours to see, and what it cost."""

    taken_mono: float
    cost_s: float
    pss_bytes: Mapping[Identity, int | None]

    @property
    def period_s(self) -> float:
        """Seconds until the next regular round."""
        return max(PSS_PERIOD_S, COST_RATIO * self.cost_s)

    def is_stale(self, now_mono: float) -> bool:
        """True after three periods without a new round: the reads hang."""
        return now_mono - self.taken_mono > 3 * self.period_s


@dataclass(frozen=True, slots=True)
class Mapped:
    """What is known: the model of each process that is a runner, and the newest round of PSS."""

    models: Mapping[Identity, RunnerModel]
    pss: PssRound | None = None


class MappedFigures:
    """Owns what is known of the address spaces. The thread hands over what it found; it changes nothing itself."""

    def __init__(self, proc: Path = PROC) -> None:
        self._proc = proc
        self._thread = Offload("telemetry-mapped")
        self._found: deque[_Found] = deque()  # also what came after nobody waited any more
        self._looks: dict[Identity, int] = {}
        self._models: dict[Identity, RunnerModel] = {}
        self._pss: PssRound | None = None

    @property
    def known(self) -> Mapped:
        """From memory."""
        return Mapped(dict(self._models), self._pss)

    async def look(self, processes: Sequence[Identity], *, now_mono: float, timeout_s: float) -> None:
        """Read of these processes what is due; what takes longer than `timeout_s` comes with a later look."""
        self._take_found(processes)
        # Twice in its life: between fork and exec a process shows the arguments of its parent.
        unread = tuple(one for one in processes if self._looks.get(one, 0) < 2)
        is_due = is_pss_due(self._pss, processes, now_mono=now_mono)
        if not unread and not is_due:
            return

        def read() -> None:
            models = {one: runner_model(read_argv(one[0], self._proc) or ()) for one in unread}
            pss = read_pss(processes, self._proc, taken_mono=now_mono) if is_due else None
            self._found.append(_Found(models, pss))

        await self._thread.call(read, timeout_s=timeout_s)
        self._take_found(processes)

    async def settle(self, *, timeout_s: float) -> None:
        """Wait for the read in flight, if any, but not longer than `timeout_s`."""
        await self._thread.settle(timeout_s=timeout_s)

    def _take_found(self, processes: Sequence[Identity]) -> None:
        while self._found:
            found = self._found.popleft()
            self._pss = found.pss or self._pss
            for one, model in found.models.items():
                self._looks[one] = self._looks.get(one, 0) + 1
                self._models.pop(one, None)
                if model is not None:
                    self._models[one] = model
        for gone in self._looks.keys() - set(processes):
            del self._looks[gone]
            self._models.pop(gone, None)


@dataclass(frozen=True, slots=True)
class _Found:
    models: Mapping[Identity, RunnerModel | None]
    pss: PssRound | None


def is_pss_due(last: PssRound | None, processes: Sequence[Identity], *, now_mono: float) -> bool:
    """Every 60 s, and at once for a process that is new; never before 1000 times what the last round cost. Pure."""
    if last is None:
        return bool(processes)
    since_s = now_mono - last.taken_mono
    if since_s < COST_RATIO * last.cost_s:
        return False
    return since_s >= PSS_PERIOD_S or any(one not in last.pss_bytes for one in processes)


def read_pss(processes: Sequence[Identity], proc: Path, *, taken_mono: float) -> PssRound:
    """A round over these processes, with the processor time that it took. May block for ever."""
    began_s = time.thread_time()
    found = {one: read_pss_bytes(one[0], proc) for one in processes}
    return PssRound(taken_mono, time.thread_time() - began_s, found)


def runner_model(argv: Sequence[str]) -> RunnerModel | None:
    """The model of a runner's arguments; None for any other process, a discovery of devices included. Pure.

    Since 0.30 `llama-server --model <store>/blobs/sha256-… --port N …`, before it
    `ollama runner --model <store>/blobs/sha256-… --port N` (facts/ollama.md §2.1).
    """
    for number, word in enumerate(argv):
        if word == "--model" and number + 1 < len(argv):
            return _model(argv[number + 1])
        if word.startswith("--model="):
            return _model(word.partition("=")[2])
    return None


def _model(path: str) -> RunnerModel:
    blob = _BLOB.fullmatch(path.rpartition("/")[2])
    return RunnerModel(f"sha256:{blob[1]}" if blob else None)
