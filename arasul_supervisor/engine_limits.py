"""What the settings say of the engine's life: where it is reached, how long its steps take, when it starts again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from arasul_supervisor.settings.bind import reachable_host
from arasul_supervisor.supervision.restart_policy import RestartPolicy
from arasul_supervisor.supervision.wiring import EngineLimits

if TYPE_CHECKING:
    from arasul_supervisor.settings import Settings


def limits_of(settings: Settings) -> EngineLimits:
    """Where the engine is reached, and how long its steps may take."""
    return EngineLimits(
        reachable_host(settings.engine_host),
        settings.engine_port,
        startup_s=settings.startup_timeout_s,
        stop_s=settings.stop_timeout_s,
        grace_s=settings.health_grace_s,
    )


def policy_of(settings: Settings) -> RestartPolicy:
    """When the engine is started again after it has ended by itself."""
    return RestartPolicy(
        stable_s=settings.stable_s,
        base_s=settings.backoff_base_s,
        max_s=settings.backoff_max_s,
        reset_s=settings.backoff_reset_s,
        start_retries=settings.start_retries,
        on_give_up=settings.on_give_up,
    )
