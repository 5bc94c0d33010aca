"""NVIDIA's library as a source: keeps one child that may hang, and never more than one.

look for a driver ─ none ────────────────────────────► look again
       │ there
       ▼
spawn ─► init (30 s) ─► ask, answer (1 s), wait 5 s ─┐
             │  ▲───────────────────────────────────┘
             ▼ refused, silent, dead, other kernel module
kill ─► reaped within 1 s ─────────────────────────► pause, then anew
             └─ not reaped: `stuck`, no other child until the pidfd says that it is gone
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from arasul_supervisor.telemetry.gpu.child_process import ChildEnded, ChildProcess, ChildSilent
from arasul_supervisor.telemetry.gpu.launch import DriverSigns, child_command, look_for_driver
from arasul_supervisor.telemetry.gpu.nvml_child import LIBRARY_NOT_FOUND, NO_PERMISSION, STATE_OF_CODE
from arasul_supervisor.telemetry.gpu.nvml_lines import SICK, carry_over, readings_of
from arasul_supervisor.telemetry.gpu.nvml_words import (
    device_sentence,
    refusal_sentence,
    silent_sentence,
    unkillable_sentence,
)
from arasul_supervisor.telemetry.gpu.readings import SourceReport
from arasul_supervisor.telemetry.offload import Offload

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from arasul_supervisor.clock import Clock
    from arasul_supervisor.event_log import EventLog
    from arasul_supervisor.telemetry.gpu.readings import GpuReading


@dataclass(frozen=True, slots=True)
class NvmlLimits:
    """How long to wait for what. A standing client keeps an idle card initialised, hence the long first limit."""

    period_s: float = 5.0
    sample_s: float = 1.0
    init_s: float = 30.0
    kill_s: float = 1.0
    farewell_s: float = 0.5  # as `kill_s`, when the daemon leaves
    keep_s: float = 15.0  # how long a figure that fails in passing keeps its value
    look_again_s: float = 30.0  # no driver, no device, a silent or dead child
    look_rarely_s: float = 600.0  # no library, a lost card, versions that do not fit


class NvmlSource:
    """The one owner of the child and of what it said last."""

    def __init__(
        self,
        root: Path,
        clock: Clock,
        log: EventLog,
        *,
        own: Callable[[int], None],
        disown: Callable[[int], None],
        limits: NvmlLimits | None = None,
        environ: Mapping[str, str] | None = None,
        looks_anyway: str = "",
    ) -> None:
        """Start nothing yet.

        :param own: told the child's pid in the same synchronous stretch as its spawn
        :param disown: told it when the child is reaped here, or left to whoever reaps orphans
        :param environ: the child's environment; the daemon's when None
        :param looks_anyway: why a child is started without a sign of a driver; empty: it is not
        """
        self._root, self._clock, self._log = root, clock, log
        self._own, self._disown = own, disown
        self._limits = limits or NvmlLimits()
        self._environ = environ
        self._looks_anyway = looks_anyway
        self._files = Offload("telemetry-driver-files")
        self._signs = DriverSigns(is_there=False, module_version=None)
        self._is_asked_to_look = False
        self._nudged: asyncio.Future[None] | None = None
        self._next_sample: asyncio.Future[None] | None = None
        self._child: ChildProcess | None = None
        self._told: set[tuple[int, tuple[str, ...]]] = set()
        self._hangs = 0
        self._failures = 0
        self._library: str | None = None
        self._report = SourceReport("nvml", "none", "No look at the GPU is done yet.", clock.mono())

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
                await self._rest(pause_s)
        finally:
            if self._child is not None:
                await self._child.end(timeout_s=self._limits.farewell_s)
                self._child.let_go()
            await self._files.settle(timeout_s=self._limits.farewell_s / 2)

    async def _one_child(self) -> float:
        """The life of one child, if there is reason for one; seconds until the next."""
        await self._look()
        if not (self._signs.is_there or self._looks_anyway):
            self._enter("none", "There is no sign of an NVIDIA driver on this box.")
            return self._limits.look_again_s
        command = await self._files.call(child_command, timeout_s=self._limits.sample_s)
        if command is None:
            return self._failed("The disk that holds the NVML child does not answer.")
        try:
            self._child = child = ChildProcess(
                command, own=self._own, disown=self._disown, environ=self._environ
            )
        except OSError as error:
            self._enter("none", f"The NVML child cannot be started: {error.strerror}.")
            return self._limits.look_again_s
        pause_s = await self._converse(child)
        if await child.end(timeout_s=self._limits.kill_s):
            self._child = None
        else:
            self._enter("stuck", unkillable_sentence(child.pid))
        return pause_s

    async def _converse(self, child: ChildProcess) -> float:
        """Ask this child until there is a reason to end it; seconds until the next one."""
        try:
            hello = await child.line(timeout_s=self._limits.init_s)
            self._library = hello["library"]
            if hello["kind"] == "failed":
                return self._refused(hello["code"])
            self._log.info(
                "nvml_child_started", pid=child.pid, bindings=hello["bindings"], library=self._library
            )
        except ChildSilent as error:
            self._hangs += 1
            self._enter("stuck", silent_sentence(str(error), child.pid))
            return self._limits.look_again_s
        except ChildEnded as error:
            return self._failed(str(error))
        try:
            return await self._ask_on(child)
        except ChildSilent as error:
            self._hangs += 1
            if self._hangs > 1:  # once may be a driver that is busy with a reset
                self._enter("stuck", silent_sentence(str(error), child.pid))
                return self._limits.look_again_s
            self._log.warning("nvml_child_silent", sentence=str(error))
            return self._limits.period_s
        except ChildEnded as error:
            return self._failed(str(error))

    async def _ask_on(self, child: ChildProcess) -> float:
        """Sample by sample."""
        while True:
            self._is_asked_to_look = False
            child.ask()
            line = await child.line(timeout_s=self._limits.sample_s)
            if line["code"]:
                return self._refused(line["code"])
            self._took(line)
            if self._report.readings and all(reading.state in SICK for reading in self._report.readings):
                return self._limits.look_rarely_s  # an open client would stand in the way of a reset
            if not self._is_asked_to_look:
                await self._wait(self._limits.period_s, child.ended)
            before = self._signs.module_version
            await self._look()
            if self._signs.module_version != before:  # this child keeps the old library for ever
                self._log.info(
                    "nvml_child_replaced", old_module=before, new_module=self._signs.module_version
                )
                return 0.0

    def _took(self, line: dict[str, Any]) -> None:  # Any: JSON of our own child
        """Publish a sample."""
        now_mono = self._clock.mono()
        before = self._report
        readings = carry_over(
            before.readings,
            readings_of(line),
            taken_mono=now_mono if before.taken_mono is None else before.taken_mono,
            now_mono=now_mono,
            keep_s=self._limits.keep_s,
        )
        self._hangs = self._failures = 0
        self._tell_changes(before.readings, readings)
        self._report = replace(
            before,
            readings=readings,
            taken_mono=now_mono,
            has_worked=before.has_worked or any(reading.state == "ok" for reading in readings),
        )
        self._enter("ok", f"The NVIDIA library answers; GPUs listed: {len(line['gpus'])}.")
        if self._next_sample is not None and not self._next_sample.done() and not self._is_asked_to_look:
            self._next_sample.set_result(None)

    def _refused(self, code: int) -> float:
        """The library says that it cannot work; seconds until it is worth another try."""
        state = "none" if code == LIBRARY_NOT_FOUND else STATE_OF_CODE.get(code)
        if state is None:  # a transient or unknown code proves nothing
            return self._failed(f"NVML fails with code {code}.")
        self._enter(
            state, refusal_sentence(state, code, library=self._library, module=self._signs.module_version)
        )
        is_lasting = state in ("none", "driver_mismatch", *SICK)
        return self._limits.look_rarely_s if is_lasting else self._limits.look_again_s

    def _failed(self, sentence: str) -> float:
        """A child that gave nothing, and no reason that has a name: what was known grows old."""
        tell = self._log.debug if self._failures else self._log.warning  # once per series of failures
        tell("nvml_child_failed", sentence=sentence)
        self._failures += 1
        self._report = replace(self._report, sentence=sentence)
        return self._limits.look_again_s

    def _enter(self, state: str, sentence: str) -> None:
        """Publish the state of the source as a whole; tell the log when it is another one."""
        before = self._report
        is_new = state != before.state or not before.has_answered
        since_mono = self._clock.mono() if is_new else before.since_mono
        self._report = replace(
            before, state=state, sentence=sentence, since_mono=since_mono, has_answered=True
        )
        if is_new:
            tell = self._log.info if state in ("ok", "none") else self._log.warning
            tell("gpu_source_changed", source=before.source, state=state, sentence=sentence)

    def _tell_changes(self, before: Sequence[GpuReading], now: Sequence[GpuReading]) -> None:
        """Log each GPU whose state is another one, and once each figure that needs a permission we lack."""
        states = {reading.uuid or reading.index: reading.state for reading in before}
        for reading in now:
            if states.get(reading.uuid or reading.index, "ok") != reading.state:
                tell = self._log.info if reading.state == "ok" else self._log.error
                tell(
                    "gpu_changed", index=reading.index, state=reading.state, sentence=device_sentence(reading)
                )
            forbidden = tuple(
                sorted(figure for figure, code in reading.refusals.items() if code == NO_PERMISSION)
            )
            if forbidden and (reading.index, forbidden) not in self._told:
                self._told.add((reading.index, forbidden))
                self._log.warning("gpu_figures_forbidden", index=reading.index, figures=forbidden)

    async def _look(self) -> None:
        """See what the file system says of the driver; what was known stays when it does not answer."""
        signs = await self._files.call(lambda: look_for_driver(self._root), timeout_s=self._limits.sample_s)
        if signs is not None:
            self._signs = signs

    async def _rest(self, seconds: float) -> None:
        """Between two children: until the time is over, or the files of the driver have changed."""
        deadline_mono = asyncio.get_running_loop().time() + seconds
        signs = self._signs
        while self._signs == signs and (left_s := deadline_mono - asyncio.get_running_loop().time()) > 0:
            await self._wait(min(left_s, self._limits.period_s))
            await self._look()

    async def _wait(self, seconds: float, *others: asyncio.Future[None]) -> None:
        """Until the time is over, somebody nudges, or one of `others` is done."""
        self._nudged = asyncio.get_running_loop().create_future()
        try:
            await asyncio.wait((self._nudged, *others), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._nudged = None
