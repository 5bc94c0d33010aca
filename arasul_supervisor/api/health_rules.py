"""What the four points of `/health` say, and what follows from them: pure, one rule per function.

api     fails unless the engine answers its heartbeat          → unhealthy; starting within the grace
gpu     as the sampler judges it, and whether the engine uses  → fail: unhealthy, warn: degraded
        it (`gpu_rules.py`)
errors  what the engine's log said in this generation          → at most degraded, and only by errors
model   one is loaded, or the default one is installed         → never worse than healthy
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from arasul_supervisor.api.gpu_rules import GpuUse, judge_gpu_use
from arasul_supervisor.api.process_view import ProcessView, process_view
from arasul_supervisor.logs.meaning.finding import Finding
from arasul_supervisor.logs.meaning.findings import ONE_FAULT_S
from arasul_supervisor.supervision.snapshot import State, Wanted, why_down

if TYPE_CHECKING:
    from collections.abc import Sequence

    from arasul_supervisor.supervision.snapshot import RunnerLoss, Snapshot
    from arasul_supervisor.telemetry.gpu_check import GpuCheck

OK, WARN, FAIL, UNKNOWN, SKIPPED = "ok", "warn", "fail", "unknown", "skipped"
HEALTHY, DEGRADED, STARTING, UNHEALTHY = "healthy", "degraded", "starting", "unhealthy"
SEVERITY: Final = (HEALTHY, DEGRADED, STARTING, UNHEALTHY)


@dataclass(frozen=True, slots=True)
class Check:
    """One point: what was seen, as a sentence, and how old that knowledge is."""

    status: str
    detail: str
    age_s: float | None


@dataclass(frozen=True, slots=True)
class ErrorsCheck(Check):
    """The point `errors`: also the outcome that is told, and how often it befell this engine."""

    outcome: str | None = None
    count: int = 0


@dataclass(frozen=True, slots=True)
class Checks:
    """The four points."""

    api: Check
    gpu: Check
    model: Check
    errors: ErrorsCheck


@dataclass(frozen=True, slots=True)
class HealthView:
    """The body of `/health`. `models` are the installed names as last seen; `uptime_s` is the daemon's."""

    status: str
    reason: str
    checks: Checks
    process: ProcessView
    models: tuple[str, ...]
    models_count: int
    uptime_s: float
    timestamp: float
    version: str

    @property
    def http_status(self) -> int:
        """200 for healthy and degraded, 503 for starting and unhealthy."""
        return 200 if self.status in (HEALTHY, DEGRADED) else 503


@dataclass(frozen=True, slots=True)
class Now:
    """The instant of a judgement, on both clocks, and since when the daemon is there."""

    mono: float
    wall: float
    uptime_s: float


@dataclass(frozen=True, slots=True)
class Inventory:
    """Which models are there, from memory. An age of None: never seen. `why_quarantined`: the default one, in words."""

    default: str
    installed: tuple[str, ...] = ()
    loaded: tuple[str, ...] = ()
    is_default_installed: bool = False
    age_s: float | None = None
    why_quarantined: str | None = None


@dataclass(frozen=True, slots=True)
class HealthInputs:
    """All that the judgement rests on."""

    snapshot: Snapshot
    gpu: GpuCheck
    findings: Sequence[Finding]
    inventory: Inventory
    gpu_use: GpuUse
    version: str


def judge_health(inputs: HealthInputs, now: Now) -> HealthView:
    """The verdict with its reason. Pure."""
    checks = Checks(
        api=_api(inputs.snapshot, now),
        gpu=_gpu(inputs, now),
        model=_model(inputs.inventory),
        errors=_errors(inputs.findings, now),
    )
    verdicts = (
        (_verdict_of_api(checks.api, inputs.snapshot, now), checks.api),
        ({FAIL: UNHEALTHY, WARN: DEGRADED}.get(checks.gpu.status, HEALTHY), checks.gpu),
        ({FAIL: DEGRADED}.get(checks.errors.status, HEALTHY), checks.errors),
    )
    status, worst = max(verdicts, key=lambda verdict: SEVERITY.index(verdict[0]))
    return HealthView(
        status=status,
        reason=worst.detail if status != HEALTHY else f"{checks.api.detail} {checks.model.detail}",
        checks=checks,
        process=process_view(inputs.snapshot, now.mono),
        models=inputs.inventory.installed,
        models_count=len(inputs.inventory.installed),
        uptime_s=round(now.uptime_s, 3),
        timestamp=now.wall,
        version=inputs.version,
    )


def with_lost_runner(findings: Sequence[Finding], loss: RunnerLoss | None) -> Sequence[Finding]:
    """What the engine's log cannot know of a runner's end, in place of what it says of that end."""
    if loss is None:
        return findings
    others = (
        finding
        for finding in findings
        if finding.outcome != "runner_died" or abs(finding.last_mono - loss.mono) > ONE_FAULT_S
    )
    return (Finding("runner_oom_killed", loss.sentence, loss.mono, loss.at), *others)


def _api(snapshot: Snapshot, now: Now) -> Check:
    answered = snapshot.answered_mono
    age_s = None if answered is None else round(max(0.0, now.mono - answered), 3)
    if not snapshot.is_answering:
        return Check(FAIL, why_down(snapshot), age_s)
    version = f" {snapshot.engine_version}" if snapshot.engine_version else ""
    missed = f", {snapshot.missed_beats} heartbeats missed" if snapshot.missed_beats else ""
    return Check(OK, f"Ollama{version} answers{missed}.", age_s)


def _verdict_of_api(api: Check, snapshot: Snapshot, now: Now) -> str:
    if api.status == OK:
        return HEALTHY
    return STARTING if _is_starting(snapshot, now) else UNHEALTHY


def _is_starting(snapshot: Snapshot, now: Now) -> bool:
    """Not ready yet, on its way, and within the grace; what has been ready and fell silent is never starting."""
    if snapshot.wanted is Wanted.DOWN or snapshot.gave_up:
        return False
    if snapshot.state in (State.RUNNING, State.FATAL):
        return False
    return now.mono < snapshot.grace_until_mono


def _gpu(inputs: HealthInputs, now: Now) -> Check:
    status, detail = judge_gpu_use(inputs.gpu, inputs.gpu_use, inputs.findings, now_mono=now.mono)
    return Check(status, detail, inputs.gpu.age_s)


def _model(inventory: Inventory) -> Check:
    if inventory.loaded:
        return Check(OK, f"Loaded: {', '.join(inventory.loaded[:3])}.", inventory.age_s)
    if inventory.age_s is None:
        return Check(UNKNOWN, "The installed models have not been listed yet.", None)
    if inventory.why_quarantined is not None:
        return Check(WARN, inventory.why_quarantined, inventory.age_s)
    if inventory.is_default_installed:
        return Check(OK, f"{inventory.default} is installed.", inventory.age_s)
    return Check(
        WARN,
        f"{inventory.default} is not installed: arasul-supervisor pull {inventory.default}",
        inventory.age_s,
    )


def _errors(findings: Sequence[Finding], now: Now) -> ErrorsCheck:
    """The worst that still counts, the latest of these; warnings are shown and change nothing."""
    current = [finding for finding in findings if finding.counts_at(now.mono)]
    for severity, status in (("error", FAIL), ("warning", WARN)):
        found = [finding for finding in current if finding.severity == severity]
        if found:
            newest = max(found, key=lambda finding: finding.last_mono)
            often = f" ({newest.count} times)" if newest.count > 1 else ""
            more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
            age_s = round(max(0.0, now.mono - newest.last_mono), 3)
            return ErrorsCheck(status, f"{newest.sentence}{often}{more}", age_s, newest.outcome, newest.count)
    return ErrorsCheck(OK, "Nothing in Ollama's log speaks of a fault that still counts.", 0.0)
