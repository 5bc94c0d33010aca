"""`/health`, `/livez`, `/readyz`: answered from memory, whatever state the engine is in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from arasul_supervisor import __version__
from arasul_supervisor.api.answers import Reply
from arasul_supervisor.api.engine_state import down_error
from arasul_supervisor.api.gpu_rules import GpuUse
from arasul_supervisor.api.health_rules import (
    HealthInputs,
    HealthView,
    Inventory,
    Now,
    judge_health,
    with_lost_runner,
)
from arasul_supervisor.api.liveness import LIVEZ
from arasul_supervisor.api.routes import Route
from arasul_supervisor.errors import EngineDown
from arasul_supervisor.logs.meaning.finding import Finding
from arasul_supervisor.ollama.names import same_model

if TYPE_CHECKING:
    from collections.abc import Callable

    from arasul_supervisor.api.engine_state import EngineAccess
    from arasul_supervisor.api.routes import Call
    from arasul_supervisor.api.warmth import Warmth
    from arasul_supervisor.logs.engine_log import EngineLog
    from arasul_supervisor.model_store.disk import StoreDisk
    from arasul_supervisor.supervision.snapshot import Snapshot

REFRESH_S: Final = 0.25


@dataclass(frozen=True, slots=True)
class Ready:
    """The body of `/readyz` while the engine answers."""

    status: str = "ready"


class HealthSources:
    """Gathers what a judgement rests on; awaits nothing."""

    def __init__(
        self,
        access: EngineAccess,
        engine_log: EngineLog,
        *,
        default_model: str,
        cpu_wish: str | None,
        reason_against: Callable[[str], str | None],
    ) -> None:
        """Take the parts.

        :param reason_against: why that model must not be loaded, where it is quarantined
        """
        self._reason_against = reason_against
        self._access = access
        self._cpu_wish = cpu_wish
        self._engine = access.engine
        self._engine_log = engine_log
        self._default_model = default_model
        self._clock = access.clock
        self._since_mono = access.clock.mono()

    @property
    def snapshot(self) -> Snapshot:
        """The engine as it is now."""
        return self._engine.snapshot

    def mono(self) -> float:
        """Seconds of the monotonic clock."""
        return self._clock.mono()

    def judge(self) -> HealthView:
        """Health at this instant."""
        snapshot, now_mono = self._engine.snapshot, self._clock.mono()
        marks = self._engine_log.marks(snapshot.generation)
        installed = tuple(model.name for model in self._access.catalogue.known)
        inputs = HealthInputs(
            snapshot=snapshot,
            gpu=self._access.sampler.gpu_check(),
            findings=(
                *with_lost_runner(self._engine_log.findings(snapshot.generation), snapshot.runner_loss),
                *self._engine_log.troubles(),
                *_full_disk(self._access.sampler.store_disk),
            ),
            inventory=Inventory(
                default=self._default_model,
                installed=installed,
                loaded=self._loaded(snapshot),
                is_default_installed=any(same_model(name, self._default_model) for name in installed),
                age_s=_rounded(self._access.catalogue.known_age_s),
                why_quarantined=self._reason_against(self._default_model),
            ),
            gpu_use=GpuUse(
                is_on_cpu=snapshot.is_answering
                and "running_on_cpu" in marks
                and "running_on_gpu" not in marks,
                cpu_wish=self._cpu_wish,
                loaded=self._access.residency.known if snapshot.is_answering else (),
            ),
            version=__version__,
        )
        return judge_health(inputs, Now(now_mono, self._clock.wall(), now_mono - self._since_mono))

    def _loaded(self, snapshot: Snapshot) -> tuple[str, ...]:
        if not snapshot.is_answering:
            return ()
        return tuple(model.name for model in self._access.residency.known)


class Health:
    """Keeps the written-out body: made anew when the engine's snapshot changes, or after a quarter of a second."""

    def __init__(self, sources: HealthSources, warmth: Warmth) -> None:
        self._sources = sources
        self._warmth = warmth
        self._reply = Reply(b"{}", 503)
        self._of_snapshot: Snapshot | None = None
        self._until_mono = 0.0

    def routes(self) -> tuple[Route, ...]:
        """The three questions of a probe."""
        return (
            Route(
                "GET",
                "/health",
                self.health,
                "Health, in four points and one sentence",
                {200: HealthView, 503: HealthView},
            ),
            LIVEZ,
            Route(
                "GET",
                "/readyz",
                self.readyz,
                "200 only while the engine answers",
                {200: Ready},
                errors=(EngineDown,),
            ),
        )

    def health(self, call: Call) -> Reply:
        """The kept body, or a new one."""
        now_mono = self._sources.mono()
        snapshot = self._sources.snapshot
        if snapshot is self._of_snapshot and now_mono < self._until_mono:
            return self._reply
        self._warmth.ask()
        view = self._sources.judge()
        self._reply = Reply(msgspec.json.encode(view), view.http_status)
        self._of_snapshot, self._until_mono = snapshot, now_mono + REFRESH_S
        return self._reply

    def readyz(self, call: Call) -> Reply:
        """Whether the engine answers."""
        snapshot = self._sources.snapshot
        if not snapshot.is_answering:
            raise down_error(snapshot, self._sources.mono())
        return Reply(Ready())


def _full_disk(disk: StoreDisk | None) -> tuple[Finding, ...]:
    """A download that ends on a full disk is told to its caller, and nowhere in the log."""
    if disk is None or disk.trouble is None:
        return ()
    return (Finding("disk_full", disk.trouble, disk.seen_mono, disk.seen_at),)


def _rounded(age_s: float | None) -> float | None:
    return None if age_s is None else round(age_s, 3)
