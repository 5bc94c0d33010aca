"""Whether and when a pull that failed is taken up again: pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from arasul_supervisor.errors import ArasulError, EngineDown, EngineRefused, EngineSilent
from arasul_supervisor.ollama.pull_errors import DigestMismatch, RegistryTrouble


class PullPaused(EngineDown):
    """The engine is about to be stopped; the pull goes on when it is ready again."""


class NotWhole(EngineRefused):
    """Ollama said that the model was pulled, and it is not whole."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long a pull is taken up again; each wait doubles from `base_s` to `cap_s`.

    A line that is away for minutes must not cost a download of hours, a name that never was one must be told soon:
    `patience_s` counts without a new byte, for a pull that has had some; `first_patience_s` before the first, from
    one of `WELL_KNOWN` registries or one that has shown a manifest; `first_attempts` before the first, from any
    other. `engine_attempts` in a row that brought nothing end a pull over which the engine fails, and so do
    `engine_failures` that lost what they brought; `mismatch_attempts` one that is wrong each time it is there.
    """

    base_s: float = 1.0
    cap_s: float = 30.0
    patience_s: float = 3600.0
    first_patience_s: float = 600.0
    first_attempts: int = 3
    engine_attempts: int = 8
    engine_failures: int = 30
    mismatch_attempts: int = 3


@dataclass(frozen=True, slots=True)
class Setbacks:
    """What a pull has been through when an attempt has just failed.

    `n_fruitless`: attempts in a row that brought no new byte, this one included; 0 after one that did.
    `fruitless_s`: how long that has been so, without the time in which the engine was not up. `has_bytes`: any
    attempt has had some; `has_answered`: the registry has shown a manifest. `n_engine_failures`: times in a row that
    the engine went down, with whatever bytes, without the next attempt beginning further on disk. `n_mismatches`:
    attempts, of all, after which what had come was wrong.
    """

    n_fruitless: int = 0
    fruitless_s: float = 0.0
    has_bytes: bool = False
    has_answered: bool = False
    n_engine_failures: int = 0
    n_mismatches: int = 0


WELL_KNOWN: Final = frozenset({"registry.ollama.ai", "ollama.com", "hf.co", "huggingface.co"})


def wait_before_attempt(
    error: ArasulError, setbacks: Setbacks, policy: RetryPolicy, *, host: str
) -> float | None:
    """Seconds until the next attempt, min(cap, base · 2^(n−1)); None when the pull has failed.

    :param host: the registry, as in `canonical(name)`
    """
    if isinstance(error, PullPaused):
        return 0.0
    if not _may_pass(error, setbacks, policy, host):
        return None
    return float(min(policy.cap_s, policy.base_s * 2 ** min(30, max(0, setbacks.n_fruitless - 1))))


def _may_pass(error: ArasulError, setbacks: Setbacks, policy: RetryPolicy, host: str) -> bool:
    if isinstance(error, (DigestMismatch, NotWhole)):
        return setbacks.n_mismatches < policy.mismatch_attempts
    if isinstance(error, (EngineDown, EngineSilent, EngineRefused)):
        return (
            setbacks.n_fruitless < policy.engine_attempts
            and setbacks.n_engine_failures < policy.engine_failures
        )
    if not isinstance(error, RegistryTrouble):
        return False
    if setbacks.has_bytes:
        return setbacks.fruitless_s < policy.patience_s
    if host in WELL_KNOWN or setbacks.has_answered:
        return setbacks.fruitless_s < policy.first_patience_s
    return setbacks.n_fruitless < policy.first_attempts
