"""When to start the engine again, and when to give up. Pure; CONTRACT §3 is the rule, in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

KNOWN_CAUSES: Final = frozenset(
    {"port_in_use", "engine_missing", "bad_setting", "store_unwritable", "disk_full", "no_home"}
)
"""Causes that a person has to remove: starting again at once cannot help, so the first pause is skipped."""


_LAST_STEP: Final = 60
"""Doubling beyond this changes nothing below any cap and would overflow a float at 1,024."""


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """The settings `ARASUL_STABLE_SECONDS`, `_BACKOFF_BASE`, `_MAX`, `_RESET`, `_START_RETRIES`, `_ON_GIVE_UP`."""

    stable_s: float = 10.0
    base_s: float = 0.5
    max_s: float = 30.0
    reset_s: float = 60.0
    start_retries: int = 5
    on_give_up: str = "retry"
    """`retry`, `exit` or `hold`."""


@dataclass(frozen=True, slots=True)
class Life:
    """One generation, looked back upon.

    :param ran_s: seconds it was RUNNING; None when it never became ready
    :param cause: the key of its failure, where one is known
    """

    ran_s: float | None
    cause: str | None = None


@dataclass(frozen=True, slots=True)
class Restart:
    """Start again after `delay_s`; `gave_up` when the budget is spent and the policy is to go on slowly."""

    delay_s: float
    reason: str
    gave_up: bool = False


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Start no more; `leave` when the daemon itself is to end with exit code 70."""

    reason: str
    leave: bool


def is_short(life: Life, policy: RestartPolicy) -> bool:
    """True for a failed start, or a run under `stable_s`."""
    return life.ran_s is None or life.ran_s < policy.stable_s


def short_lives_after(life: Life, short_lives: int, policy: RestartPolicy) -> int:
    """Short lives in a row once this one has ended: one more, as many, or 0 after a run of `reset_s`."""
    if is_short(life, policy):
        return short_lives + 1
    if life.ran_s is not None and life.ran_s >= policy.reset_s:
        return 0
    return short_lives


def next_start(short_lives: int, life: Life, policy: RestartPolicy, roll: float) -> Restart | GiveUp:
    """When to start again, and why.

    At once while n ≤ 1, else min(max, base · 2^(n−2)) times a jitter in [½, 1]. A cause that only a person can
    remove skips the start at once and the first step, so that the engine is not spawned in a storm.

    :param short_lives: n, this life counted
    :param roll: jitter in [0, 1), drawn by the caller
    """
    jitter = 0.5 + roll / 2
    if short_lives >= policy.start_retries:
        spent = f"{short_lives} short lives in a row spend the budget of {policy.start_retries}"
        if policy.on_give_up == "exit":
            return GiveUp(f"{spent}; the daemon leaves with exit code 70", leave=True)
        if policy.on_give_up == "hold":
            return GiveUp(f"{spent}; it stays down until POST /api/process/start", leave=False)
        delay_s = policy.max_s * jitter
        return Restart(delay_s, f"{spent}; it goes on at the slowest pace, in {delay_s:.1f} s", gave_up=True)
    step = short_lives - 2
    if life.cause in KNOWN_CAUSES:
        step = short_lives
    elif short_lives <= 1:
        return Restart(0.0, _at_once(life, short_lives))
    delay_s = min(policy.max_s, policy.base_s * 2.0 ** min(step, _LAST_STEP)) * jitter
    return Restart(
        delay_s, f"short life {short_lives} of {policy.start_retries}; next start in {delay_s:.1f} s"
    )


def _at_once(life: Life, short_lives: int) -> str:
    lived = "the start failed" if life.ran_s is None else f"it ran {life.ran_s:.1f} s before it died"
    return f"{lived}; started again at once ({short_lives} short lives in a row)"
