"""Puts the management port together: one call for `app.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from arasul_supervisor.api.checks import Checks
from arasul_supervisor.api.dispatch import Dispatch
from arasul_supervisor.api.engine_state import EngineAccess
from arasul_supervisor.api.guards import Guard
from arasul_supervisor.api.health import Health, HealthSources
from arasul_supervisor.api.incidents import Incidents
from arasul_supervisor.api.info import Info
from arasul_supervisor.api.jobs import Jobs
from arasul_supervisor.api.logs import Logs
from arasul_supervisor.api.models import Models
from arasul_supervisor.api.openapi import OpenApi
from arasul_supervisor.api.passthrough import Passthrough
from arasul_supervisor.api.process import Process
from arasul_supervisor.api.pulls import Pulls
from arasul_supervisor.api.quarantine import QuarantinedModels
from arasul_supervisor.api.recovery import Recovery
from arasul_supervisor.api.routes import RouteTable
from arasul_supervisor.api.server import ManagementApi
from arasul_supervisor.api.session import Session
from arasul_supervisor.api.stats import Stats
from arasul_supervisor.api.unload_wish import UnloadWish
from arasul_supervisor.api.unloading import Unloading
from arasul_supervisor.api.warmth import Warmth
from arasul_supervisor.healing.aftermath.load_progress import LoadProgress

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from arasul_supervisor.clock import Clock
    from arasul_supervisor.event_log import EventLog
    from arasul_supervisor.healing.compose import Healing
    from arasul_supervisor.logs.engine_log import EngineLog
    from arasul_supervisor.model_store.reader import StoreReader
    from arasul_supervisor.ollama.catalogue import Catalogue
    from arasul_supervisor.ollama.checks.jobs import CheckJobs
    from arasul_supervisor.ollama.client import OllamaClient
    from arasul_supervisor.ollama.pulls.jobs import PullJobs
    from arasul_supervisor.ollama.residency import Residency
    from arasul_supervisor.settings import Settings
    from arasul_supervisor.supervision.engine import Engine
    from arasul_supervisor.telemetry.sampler import Sampler


def build_resources(
    settings: Settings,
    engine: Engine,
    *,
    engine_log: EngineLog,
    catalogue: Catalogue,
    residency: Residency,
    pulls: PullJobs,
    checks: CheckJobs,
    healing: Healing,
    client: OllamaClient,
    sampler: Sampler,
    clock: Clock,
    daemon_log: EventLog,
    load_options: Callable[[], Mapping[str, int]],
    store: StoreReader,
    cpu_wish: str | None = None,
) -> ManagementApi:
    """All of the management port, for `server.serve`.

    :param load_options: runner options for the loads of a session reset
    :param cpu_wish: why the engine is meant to leave the GPU alone; None: it is not
    """
    warmth = Warmth(engine, catalogue, residency, clock=clock)

    def models_changed() -> None:
        catalogue.invalidate()
        warmth.models_changed()

    access = EngineAccess(engine, residency, catalogue, sampler, healing.asked, clock, models_changed)
    guard = Guard(settings)
    unloading = Unloading(access)
    pull_routes = Pulls(access, pulls)
    session = Session(
        access,
        LoadProgress(engine, engine_log),
        default_model=settings.default_model,
        load_options=load_options,
        reason_against=healing.quarantine.reason_for,
        own_loads=healing.own_loads,
    )
    recovery = Recovery(access)
    sources = HealthSources(
        access,
        engine_log,
        default_model=settings.default_model,
        cpu_wish=cpu_wish,
        reason_against=healing.quarantine.reason_for,
    )
    routes = (
        *Health(sources, warmth).routes(),
        *Models(access, pulls, client).routes(),
        *pull_routes.routes(),
        *Jobs(access, pulls, checks, store=store).routes(),
        *Checks(checks).routes(),
        *unloading.routes(),
        *session.routes(),
        *recovery.routes(),
        *Stats(sampler, clock, loaded=lambda: [model.name for model in residency.known]).routes(),
        *Info(settings, engine, sampler=sampler, clock=clock).routes(),
        *Process(settings, engine, clock=clock).routes(),
        *Logs(engine_log).routes(),
        *Incidents(healing.incidents).routes(),
        *QuarantinedModels(healing.quarantine).routes(),
    )
    passthrough = Passthrough(
        settings.engine_url, engine, unload_wish=UnloadWish(unloading, guard), clock=clock
    )
    table = RouteTable((*routes, *OpenApi(routes).routes()))
    dispatch = Dispatch(table, guard, passthrough=passthrough, daemon_log=daemon_log)
    unsubscribe = engine.subscribe(lambda _snapshot: warmth.engine_changed())
    warmth.engine_changed()  # it may have become ready before

    async def at_end() -> None:
        unsubscribe()
        for part in (pull_routes, session, recovery, warmth, passthrough):
            await part.close()

    return ManagementApi(dispatch, at_end)
