"""What a failed pull means, and whether trying again can help: pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from arasul_supervisor.errors import (
    ArasulError,
    BadInput,
    DiskFull,
    EngineDown,
    EngineRefused,
    EngineSilent,
    ModelNotFound,
    RegistryError,
)
from arasul_supervisor.ollama.refusals import is_disk_full, shortened


class RegistryTrouble(RegistryError):
    """The model registry failed in a way that may pass."""


class DigestMismatch(RegistryTrouble):
    """What came is not what the manifest names; Ollama threw it away, the next attempt begins that layer anew."""


class DamagedPart(RegistryTrouble):
    """Ollama cannot read its note of an unfinished part, or was sent half a manifest (facts/ollama.md §7 row 17)."""


class TooManyRequests(RegistryTrouble):
    """The registry has had too many requests from here."""


class PullPaused(EngineDown):
    """The engine is about to be stopped; the pull goes on when it is ready again."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long a pull is taken up again; each wait doubles from `base_s` to `cap_s`.

    A line that is away for minutes must not cost a download of hours, a name that never was one must be told soon:
    `patience_s` counts without a new byte, for a pull that has had some; `first_patience_s` before the first, from
    one of `WELL_KNOWN` registries; `first_attempts` before the first, from any other. `engine_attempts` in a row that
    brought nothing end a pull over which the engine fails; `mismatch_attempts` one whose bytes are wrong each time.
    """

    base_s: float = 1.0
    cap_s: float = 30.0
    patience_s: float = 3600.0
    first_patience_s: float = 600.0
    first_attempts: int = 3
    engine_attempts: int = 8
    mismatch_attempts: int = 3


@dataclass(frozen=True, slots=True)
class Setbacks:
    """What a pull has been through when an attempt has just failed.

    `n_fruitless`: attempts in a row that brought no new byte, this one included; 0 after one that did.
    `fruitless_s`: how long that has been so, without the time in which the engine was not up. `has_bytes`: any
    attempt has had some. `n_mismatches`: attempts, of all, that ended in a digest mismatch.
    """

    n_fruitless: int = 0
    fruitless_s: float = 0.0
    has_bytes: bool = False
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
    if isinstance(error, DigestMismatch):
        return setbacks.n_mismatches < policy.mismatch_attempts
    if isinstance(error, (EngineDown, EngineSilent, EngineRefused)):
        return setbacks.n_fruitless < policy.engine_attempts
    if not isinstance(error, RegistryTrouble):
        return False
    if setbacks.has_bytes:
        return setbacks.fruitless_s < policy.patience_s
    if host in WELL_KNOWN:
        return setbacks.fruitless_s < policy.first_patience_s
    return setbacks.n_fruitless < policy.first_attempts


# pull model manifest: 403: {"errors":[…]}
_MANIFEST_STATUS: Final = re.compile(r"pull model manifest: (?P<status>4\d\d)\b")
_PASSING_STATUSES: Final = frozenset({"408", "425", "429"})
_TOO_MANY: Final = re.compile(r"\b429\b")
_DAMAGED_PART: Final = frozenset({"EOF", "unexpected EOF", "unexpected end of JSON input"})


def pull_error(text: str, name: str) -> ArasulError:
    """The error for the last line of a failed pull (facts/ollama.md §3.7)."""
    said = f"Pulling '{name}' failed: {shortened(text)}."
    if "pull model manifest: file does not exist" in text:
        return ModelNotFound(
            f"The registry has no model '{name}' ({shortened(text)}).", hint="Check name and tag."
        )
    if "invalid model name" in text:
        return BadInput("Invalid model name format")
    if is_disk_full(text):
        return DiskFull(said)
    if "digest mismatch" in text:
        return DigestMismatch(said, hint="Something on the way to the registry alters what it sends.")
    if text.strip() in _DAMAGED_PART:
        return DamagedPart(
            said,
            hint="What an interrupted download left may be damaged; DELETE its pull with ?purge=true and pull again.",
        )
    if _TOO_MANY.search(text):
        return TooManyRequests(said)
    final_hint = _hint_when_final(text)
    if final_hint is not None:
        return RegistryError(said, hint=final_hint)
    return RegistryTrouble(said, hint=_hint_when_passing(text))


def _hint_when_final(text: str) -> str | None:
    """What to do about a refusal that stays the same however often it is asked; None for all others."""
    if "does not look like a TLS handshake" in text or "server gave HTTP response to HTTPS client" in text:
        return 'The registry speaks plain HTTP: ask with "insecure": true.'
    if "no Location header" in text:
        return "This registry does not serve layers the way Ollama asks for them."
    if "requires a newer version of Ollama" in text:
        return "Update Ollama."
    if (
        "unauthorized" in text or "access denied" in text or "realm host" in text
    ):  # a login that Ollama cannot do
        return "The model does not exist or needs an account."
    if "certificate" in text and "x509" in text:
        return "The registry's certificate is not trusted here; mend its chain or this box's CA certificates."
    manifest = _MANIFEST_STATUS.search(text)
    if manifest is not None and manifest["status"] not in _PASSING_STATUSES:
        return "Check name and tag."
    return None


def _hint_when_passing(text: str) -> str | None:
    if "no such host" in text or "dial tcp" in text:
        return "Check the network and the name of the registry."
    return None
