"""The telemetry of the box: looks at host and GPU every five seconds, answers from memory."""

from __future__ import annotations

import asyncio
import traceback
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from arasul_supervisor.offload import Offload
from arasul_supervisor.telemetry.board import BoardReader
from arasul_supervisor.telemetry.board_watch import BoardWatch, watch_board
from arasul_supervisor.telemetry.gpu.launch_memory import memory_of
from arasul_supervisor.telemetry.gpu.memory_book import idle_since
from arasul_supervisor.telemetry.gpu.sources import GpuSources, sources_for
from arasul_supervisor.telemetry.gpu_check import check_gpus
from arasul_supervisor.telemetry.gpu_condition import condition_of
from arasul_supervisor.telemetry.gpu_view import free_gpu_bytes, gpu_entries, own_entries, view_gpus
from arasul_supervisor.telemetry.history import History, sample_of
from arasul_supervisor.telemetry.host import cpu_percent, read_host, read_memory
from arasul_supervisor.telemetry.machine import read_machine
from arasul_supervisor.telemetry.mapped_figures import MappedFigures
from arasul_supervisor.telemetry.memory_condition import memory_condition
from arasul_supervisor.telemetry.process_figures import read_own, read_tree, tree_with_load, with_load
from arasul_supervisor.telemetry.stats import Known, Look, stats_payload
from arasul_supervisor.telemetry.store_watch import StoreWatch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from arasul_supervisor.clock import Clock
    from arasul_supervisor.event_log import EventLog
    from arasul_supervisor.model_store.disk import StoreDisk
    from arasul_supervisor.telemetry.board import BoardFigures
    from arasul_supervisor.telemetry.gpu.gpu_settings import GpuSettings
    from arasul_supervisor.telemetry.gpu.memory_book import GpuMemoryBook, Idle
    from arasul_supervisor.telemetry.gpu.readings import GpuSource
    from arasul_supervisor.telemetry.gpu_check import GpuCheck
    from arasul_supervisor.telemetry.gpu_condition import GpuCondition
    from arasul_supervisor.telemetry.gpu_view import GpuView
    from arasul_supervisor.telemetry.machine import Machine
    from arasul_supervisor.telemetry.memory_condition import MemoryCondition

PERIOD_S: Final = 5.0
_READ_LIMIT_S: Final = 1.0
_SOURCE_FAREWELL_S: Final = 0.9
_FILES_FAREWELL_S: Final = 0.05  # a read that takes longer is left to its thread, which ends with the process


class Sampler:
    """Owns what telemetry knows."""

    def __init__(
        self,
        settings: GpuSettings,
        clock: Clock,
        engine_pid: Callable[[], int | None],
        *,
        log: EventLog,
        own: Callable[[int], None],
        disown: Callable[[int], None],
        store: Path | None = None,
        sources: Sequence[GpuSource] | None = None,
        memory_book: GpuMemoryBook | None = None,
        period_s: float = PERIOD_S,
    ) -> None:
        """Start nothing yet.

        :param engine_pid: the leader of the engine's tree, None while there is none
        :param own: told the pid of each child of telemetry as it is spawned: nobody else may reap it
        :param disown: told it when it is reaped, or left to whoever reaps orphans
        :param store: the folder of the models, whose disk is watched; none when None
        :param sources: where GPU figures come from; chosen by the settings when None
        :param memory_book: told the memory of the GPUs, for the engine's next start
        """
        self._root, self._clock, self._engine_pid, self._log = settings.sysroot, clock, engine_pid, log
        self._period_s = period_s
        self._stale_after_s = max(10.0, 3 * period_s)
        chosen = sources_for(settings, clock, log, own=own, disown=disown) if sources is None else sources
        self._gpus = GpuSources(chosen, log, restart_s=period_s)
        self._proc_files = Offload("telemetry-procfs")
        self._board_files = Offload("telemetry-board")
        self._note_files = Offload("telemetry-note")
        self._board_reader = BoardReader(settings.sysroot)
        self._mapped = MappedFigures()
        self._store = StoreWatch(store, clock, log, stale_after_s=self._stale_after_s)
        self.history = History(period_s)
        """The samples of the last quarter of an hour."""
        self._machine: Machine | None = None
        self._look: Look | None = None
        self._board: tuple[float, BoardFigures] | None = None
        self._watch = BoardWatch()
        self._memory_book = memory_book
        self._idle: Idle | None = None
        self._gpu: GpuCondition | None = None

    async def run(self) -> None:
        """Look again and again until cancelled; ends within a second then."""
        gpus = asyncio.create_task(self._gpus.run(), name="gpu-sources")
        try:
            while True:
                await self._look_around()
                await asyncio.wait((gpus,), timeout=self._period_s)
                if gpus.done():
                    gpus.result()  # they never end by themselves, but if they do, the daemon must know
        finally:
            gpus.cancel()
            await asyncio.wait((gpus,), timeout=_SOURCE_FAREWELL_S)
            threads = (self._proc_files, self._board_files, self._note_files, self._mapped, self._store)
            await asyncio.gather(*(thread.settle(timeout_s=_FILES_FAREWELL_S) for thread in threads))

    async def refresh(self, *, timeout_s: float) -> None:
        """Have the GPU looked at now and wait for the answer; where none comes, `timeout_s` is all it costs."""
        await self._gpus.look_again(timeout_s=timeout_s)

    @property
    def store_disk(self) -> StoreDisk | None:
        """The disk of the models, as last seen; None when that is too long ago."""
        return self._store.disk

    def stats(self, now_mono: float) -> Mapping[str, object]:
        """The body of `/api/stats` at `now_mono`, from memory."""
        return stats_payload(self._known(now_mono))

    def gpu_check(self) -> GpuCheck:
        """The health point `gpu`, from memory. It knows nothing of an engine that fell back to the CPU."""
        return check_gpus(self._view(self._clock.mono()), self._watch)

    def free_bytes(self) -> int | None:
        """Free memory of all GPUs together; MemAvailable, read now, where the GPU shares it or there is none."""
        view = self._view(self._clock.mono())
        host = read_memory(self._root)  # procfs and cgroupfs alone: 0.1 ms
        if not view.cards:
            return host.available_bytes if host else None
        return free_gpu_bytes(own_entries(view, gpu_entries(view, host)))

    def gpu_condition(self) -> GpuCondition:
        """The GPUs as one witness, from memory."""
        return condition_of(self._view(self._clock.mono()), self._gpu)

    def memory(self) -> MemoryCondition | None:
        """The memory that models live in, from the last look; None when that is too old, or there was none."""
        now_mono = self._clock.mono()
        return memory_condition(self._fresh_look(now_mono), self._view(now_mono))

    def _known(self, now_mono: float) -> Known:
        look, view = self._look, self._view(now_mono)
        return Known(
            now_mono=now_mono,
            view=view,
            machine=self._machine,
            last_look=look,
            host_look=self._fresh_look(now_mono),
            board=self._board_at(view, now_mono),
            engine_pid=self._engine_pid(),
            mapped=self._mapped.known,
            store_disk=self._store.disk,
            model_names=self._store.names,
        )

    def _fresh_look(self, now_mono: float) -> Look | None:
        look = self._look
        return look if look and look.taken_mono >= now_mono - self._stale_after_s else None

    def _view(self, now_mono: float) -> GpuView:
        return view_gpus(self._gpus.reports(), now_mono=now_mono, stale_after_s=self._stale_after_s)

    def _board_at(self, view: GpuView, now_mono: float) -> BoardFigures | None:
        """The board's figures: a child's on a Jetson, else our own; None when too old."""
        if view.board is not None or self._board is None:
            return view.board
        taken_mono, board = self._board
        return board if now_mono - taken_mono <= self._stale_after_s else None

    async def _look_around(self) -> None:
        """One period's reads of the host; what cannot be read in time grows old instead."""
        pid, before = self._engine_pid(), self._look
        try:
            look = await self._proc_files.call(lambda: self._read(pid, before), timeout_s=_READ_LIMIT_S)
            self._look = look or self._look
            self._gpu = self.gpu_condition()
            await self._look_at_board()
            await self._note_memory()
            self._remember(look)
            await self._look_closer(look or self._look)
        except Exception as error:  # a file of a shape that nobody has seen must not end the telemetry
            self._say_unexpected(error)

    async def _look_at_board(self) -> None:
        """Read the board here, unless it is a Jetson's, whose firmware can hang: that is a child's work."""
        now_mono = self._clock.mono()
        view = self._view(now_mono)
        if self._machine is not None and not self._machine.is_jetson:
            board = await self._board_files.call(
                lambda: self._board_reader.read(now_mono), timeout_s=_READ_LIMIT_S
            )
            if board is not None:
                self._board = (now_mono, board)
        self._watch = watch_board(
            self._watch,
            self._board_at(view, now_mono),
            memory=self._look.host.memory if self._look else None,
            is_unified=any(card.is_unified for card in view.cards),
            now_mono=now_mono,
        )

    async def _note_memory(self) -> None:
        """Tell the book what the GPUs have; a card that is sick or silent is not told of."""
        book, view = self._memory_book, self._view(self._clock.mono())
        self._idle = idle_since(self._idle, self._look.engine if self._look else None, view.now_mono)
        cards = view.own_cards
        if book is None or not cards or any(card.is_stale or not card.is_well for card in cards):
            return
        readings = [card.first_reading for card in cards]
        taken_mono = min(view.now_mono - (card.age_s or 0.0) for card in cards)
        is_idle = self._idle is not None and taken_mono >= self._idle.since_mono
        correction = book.take(memory_of(readings, self._root), is_engine_idle=is_idle)
        if correction:
            self._log.warning("gpu_memory_corrected", sentence=correction)
        if book.is_worth_noting:
            await self._note_files.call(lambda: book.note(self._root), timeout_s=_READ_LIMIT_S)

    def _remember(self, look: Look | None) -> None:
        """One sample for the history; a look that was not done in time leaves its figures unknown."""
        now_mono = self._clock.mono()
        payload = stats_payload(replace(self._known(now_mono), host_look=look))
        self.history.add(sample_of(payload, taken_at=self._clock.wall()), taken_mono=now_mono)

    async def _look_closer(self, look: Look | None) -> None:
        """What may hang, each in a thread of its own: address spaces, and the disk of the models."""
        members = look.engine.members if look and look.engine else ()
        own = (look.own,) if look and look.own else ()
        processes = [process.identity for process in (*members, *own)]
        await self._mapped.look(processes, now_mono=self._clock.mono(), timeout_s=_READ_LIMIT_S)
        models = self._mapped.known.models.values()
        await self._store.look({model.blob for model in models if model.blob}, timeout_s=_READ_LIMIT_S)

    def _read(self, pid: int | None, before: Look | None) -> Look:
        """Runs in a thread."""
        self._machine = self._machine or read_machine(self._root)
        host = read_host(self._root)
        now_mono = self._clock.mono()
        tree, own = read_tree(pid), read_own()
        if before is not None:
            passed_s = now_mono - before.taken_mono
            tree = tree and tree_with_load(tree, before.engine, passed_s=passed_s)
            own = own and with_load(own, before.own, passed_s=passed_s)
        return Look(
            taken_mono=now_mono,
            taken_at=self._clock.wall(),
            host=host,
            cpu_percent=cpu_percent(before.host.cpu if before else None, host.cpu),
            engine=tree,
            own=own,
        )

    def _say_unexpected(self, error: Exception) -> None:
        """A fault of ours: the traceback goes to the log, the telemetry goes on."""
        self._log.error("telemetry_failed", traceback="".join(traceback.format_exception(error)))
