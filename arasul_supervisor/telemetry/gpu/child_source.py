"""A source of figures that may hang: keeps one child that asks it, and never more than one.

look for it ─ no sign ──────────────────────────────► look again
     │ there
     ▼
spawn ─► open (30 s) ─► ask, answer (1 s), wait 5 s ─┐
             │  ▲───────────────────────────────────┘
             ▼ refused, silent, dead, another version
kill ─► reaped within 1 s ─────────────────────────► pause (longer with each failure), then anew
             └─ not reaped: `stuck`, no other child until the pidfd says that it is gone

What is asked, and what its answers mean, is the kind's (`kinds.py`).
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from arasul_supervisor.line_child.process import ChildEnded, ChildProcess, ChildSilent
from arasul_supervisor.offload import Offload
from arasul_supervisor.telemetry.gpu.carry_over import carry_over
from arasul_supervisor.telemetry.gpu.gpu_changes import GpuChanges
from arasul_supervisor.telemetry.gpu.launch import Signs, child_command
from arasul_supervisor.telemetry.gpu.nvml_codes import SURE_BY_ONE_FIGURE
from arasul_supervisor.telemetry.gpu.readings import SourceReport
from arasul_supervisor.telemetry.gpu.source_limits import SourceLimits
from arasul_supervisor.telemetry.gpu.words import silent_sentence, unkillable_sentence

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from arasul_supervisor.clock import Clock
    from arasul_supervisor.event_log import EventLog
    from arasul_supervisor.telemetry.gpu.kinds import Kind


_PERIODS_BETWEEN_LOOKS: Final = 3
_MANY_FAILURES: Final = 3
_ALL_LOST: Final = "All its GPUs are lost: it is asked again every {:g} s, and whenever somebody asks for it."


class ChildSource:
    """The one owner of the child and of what it said last."""

    def __init__(
        self,
        kind: Kind,
        root: Path,
        clock: Clock,
        log: EventLog,
        *,
        own: Callable[[int], None],
        disown: Callable[[int], None],
        limits: SourceLimits | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """Start nothing yet.

        :param root: what stands for `/`
        :param own: told the child's pid in the same synchronous stretch as its spawn
        :param disown: told it when the child is reaped here, or left to whoever reaps orphans
        :param environ: the child's environment; the daemon's when None
        """
        self._kind, self._root, self._clock, self._log = kind, root, clock, log
        self._own, self._disown = own, disown
        self._limits = limits or SourceLimits()
        self._environ = environ
        self._files = Offload(f"telemetry-{kind.name}-files")
        self._signs: Signs | None = None  # not seen yet
        self._looked_s = self._spawned_s = float("-inf")
        self._is_asked_to_look = False
        self._nudged: asyncio.Future[None] | None = None
        self._next_sample: asyncio.Future[None] | None = None
        self._child: ChildProcess | None = None
        self._changes = GpuChanges(log)
        self._hangs = 0
        self._failures = 0
        self._hello: dict[str, Any] = {}  # Any: JSON of our own child
        self._report = SourceReport(kind.name, "none", "No look at the GPU is done yet.", clock.mono())

    def report(self) -> SourceReport:
        """What is known, from memory."""
        return self._report

    def look_again(self) -> asyncio.Future[None]:
        """Ask for a look now rather than at the next period; done when it is published."""
        self._is_asked_to_look = True
        if self._nudged is not None and not self._nudged.done():
            self._nudged.set_result(None)
        if self._next_sample is None or self._next_sample.done():
            self._next_sample = asyncio.get_running_loop().create_future()
        if self._report.state != "ok":  # nobody to ask at the moment
            self._next_sample.set_result(None)
        return self._next_sample

    async def run(self) -> None:
        """Look again and again until cancelled; ends within a second then, and leaves nothing behind."""
        try:
            while True:
                pause_s = await self._one_child()
                if self._child is not None:  # it outlived the kill: never a second one beside it
                    await asyncio.wait((self._child.ended,))
                    self._child = None
                    pause_s = 0.0
                self._report = replace(self._report, child_pid=None)
                await self._rest(pause_s)
        finally:
            if self._child is not None:
                await self._child.end(timeout_s=self._limits.farewell_s)
                self._child.let_go()
            await self._files.settle(timeout_s=self._limits.farewell_s / 2)

    async def _one_child(self) -> float:
        """The life of one child, if there is reason for one; seconds until the next."""
        await self._look()
        if self._signs is None:
            return self._failed("The file system that tells of the GPU's driver does not answer.")
        if not self._signs.is_there:
            self._enter("none", self._kind.absent)
            return self._limits.look_again_s
        arguments = await self._files.call(
            lambda: self._kind.arguments(self._root), timeout_s=self._limits.sample_s
        )
        if arguments is None:
            return self._failed(f"The disk that holds the {self._kind.name} child does not answer.")
        try:
            self._child = child = ChildProcess(
                child_command(self._kind.name, arguments),
                source=self._kind.name,
                own=self._own,
                disown=self._disown,
                environ=self._environ,
            )
        except OSError as error:
            self._enter("none", f"The {self._kind.name} child cannot be started: {error.strerror}.")
            return self._limits.look_again_s
        self._spawned_s, self._is_asked_to_look = _loop_s(), False
        self._report = replace(self._report, child_pid=child.pid)
        pause_s = await self._converse(child)
        if await child.end(timeout_s=self._limits.kill_s):
            self._child = None
        else:
            self._enter("stuck", unkillable_sentence(child.pid, asked=self._kind.asked))
        return pause_s

    async def _converse(self, child: ChildProcess) -> float:
        """Ask this child until there is a reason to end it; seconds until the next one."""
        is_open = False
        try:
            self._hello = await child.line(timeout_s=self._limits.init_s)
            if self._hello["kind"] == "failed":
                return self._refused(self._hello)
            is_open = True
            self._log.info(
                "gpu_child_started", gpu_source=self._kind.name, pid=child.pid, **_about(self._hello)
            )
            return await self._ask_on(child)
        except ChildSilent as error:
            return self._was_silent(str(error), child.pid, is_open=is_open)
        except ChildEnded as error:
            return self._failed(str(error))

    async def _ask_on(self, child: ChildProcess) -> float:
        """Sample by sample."""
        while True:
            self._is_asked_to_look = False
            child.ask()
            line = await child.line(timeout_s=self._limits.sample_s)
            if line["code"]:
                return self._refused(line)
            self._took(line)
            if self._are_all_lost():
                self._report = replace(self._report, sentence=_ALL_LOST.format(self._limits.look_lost_s))
                return self._limits.look_lost_s
            if not self._is_asked_to_look:
                await self._wait(self._limits.period_s, child.ended)
            if _loop_s() - self._looked_s < self._limits.look_again_s:
                continue
            before = self._version
            await self._look()
            if self._version != before:  # this child keeps the old library for ever
                self._log.info("gpu_child_replaced", old_version=before, new_version=self._version)
                return 0.0

    def _took(self, line: dict[str, Any]) -> None:  # Any: JSON of our own child
        """Publish a sample."""
        now_mono = self._clock.mono()
        before, sample = self._report, self._kind.take(line)
        readings = carry_over(
            before.readings,
            sample.readings,
            taken_mono=now_mono if before.taken_mono is None else before.taken_mono,
            now_mono=now_mono,
            keep_s=self._limits.keep_s,
        )
        self._hangs = self._failures = 0
        self._changes.tell(before.readings, readings)
        self._report = replace(
            before,
            readings=readings,
            board=sample.board,
            cuda_version=sample.cuda_version or before.cuda_version,
            emc_percent=sample.emc_percent,
            taken_mono=now_mono,
            has_worked=before.has_worked or any(reading.has_worked for reading in readings),
        )
        n_gpus = len({reading.index for reading in sample.readings})
        self._enter("ok", f"The source {self._kind.name} answers; GPUs listed: {n_gpus}.")
        if self._next_sample is not None and not self._next_sample.done() and not self._is_asked_to_look:
            self._next_sample.set_result(None)

    @property
    def _version(self) -> str | None:
        return self._signs.version if self._signs else None

    def _are_all_lost(self) -> bool:
        readings = self._report.readings
        return bool(readings) and all(
            reading.state in SURE_BY_ONE_FIGURE and not reading.is_unlisted for reading in readings
        )

    def _refused(self, line: dict[str, Any]) -> float:  # Any: JSON of our own child
        """The source says that it cannot work; seconds until it is worth another try."""
        refusal = self._kind.refusal(line, self._hello, self._version)
        if refusal is None:  # a transient or unknown code proves nothing
            reason = line.get("reason") or f"{self._kind.name} fails with code {line['code']}."
            return self._failed(str(reason))
        self._enter(refusal.state, refusal.sentence)
        return self._limits.look_rarely_s if refusal.is_lasting else self._limits.look_again_s

    def _was_silent(self, seen: str, pid: int, *, is_open: bool) -> float:
        """A call that hangs; once after the opening may be a driver that is busy with a reset."""
        self._hangs += 1
        if is_open and self._hangs == 1:
            self._log.warning("gpu_child_silent", sentence=seen)
            return self._limits.period_s
        self._enter("stuck", silent_sentence(seen, pid, asked=self._kind.asked))
        return self._limits.back_off_s(self._hangs)

    def _failed(self, sentence: str) -> float:
        """A child that gave nothing, and no reason that has a name: what was known grows old."""
        tell = self._log.debug if self._failures else self._log.warning  # once per series of failures
        tell("gpu_child_failed", gpu_source=self._kind.name, sentence=sentence)
        self._failures += 1
        keeps_failing = self._failures >= _MANY_FAILURES
        self._report = replace(self._report, sentence=sentence, keeps_failing=keeps_failing)
        return self._limits.back_off_s(self._failures)

    def _enter(self, state: str, sentence: str) -> None:
        """Publish the state of the source as a whole; tell the log when it is another one."""
        before = self._report
        is_new = state != before.state or not before.has_answered
        since_mono = self._clock.mono() if is_new else before.since_mono
        self._report = replace(
            before,
            state=state,
            sentence=sentence,
            since_mono=since_mono,
            has_answered=True,
            keeps_failing=False,
        )
        if is_new:
            tell = self._log.info if state in ("ok", "none") else self._log.warning
            tell("gpu_source_changed", gpu_source=before.source, state=state, sentence=sentence)

    async def _look(self) -> None:
        """See what the file system says of the source; what was known stays when it does not answer."""
        self._looked_s = _loop_s()
        signs = await self._files.call(lambda: self._kind.look(self._root), timeout_s=self._limits.sample_s)
        if signs is not None:
            self._signs = signs

    async def _rest(self, seconds: float) -> None:
        """Between two children: until the time is over, the files of the driver have changed, or somebody asks.

        Who asks again and again does not start a child each time: a sick driver is left in peace.
        """
        deadline_s = _loop_s() + seconds
        signs = self._signs
        while self._signs == signs and (left_s := deadline_s - _loop_s()) > 0:
            await self._wait(min(left_s, _PERIODS_BETWEEN_LOOKS * self._limits.period_s))
            await self._look()
            if self._is_asked_to_look and _loop_s() - self._spawned_s >= self._limits.look_again_s:
                return

    async def _wait(self, seconds: float, *others: asyncio.Future[None]) -> None:
        """Until the time is over, somebody nudges, or one of `others` is done."""
        self._nudged = asyncio.get_running_loop().create_future()
        try:
            await asyncio.wait((self._nudged, *others), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._nudged = None


def _loop_s() -> float:
    """Seconds of real waiting, whatever the clock of the figures says."""
    return asyncio.get_running_loop().time()


def _about(hello: Mapping[str, Any]) -> dict[str, object]:  # Any: JSON of our own child
    return {name: value for name, value in hello.items() if name != "kind"}
