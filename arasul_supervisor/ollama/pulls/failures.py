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


class PullPaused(EngineDown):
    """The engine is about to be stopped; the pull goes on when it is ready again."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a pull is taken up again.

    `attempts` counts attempts in a row that brought less than `fruitful_bytes` new bytes; `first_attempts` is
    the same while no byte has come at all and the registry is to blame, so that a wrong host is told soon.
    """

    attempts: int = 8
    first_attempts: int = 3
    base_s: float = 1.0
    cap_s: float = 30.0
    fruitful_bytes: int = 1024 * 1024


def wait_before_attempt(
    error: ArasulError, n_fruitless: int, policy: RetryPolicy, *, bytes_seen: int
) -> float | None:
    """Seconds until the next attempt, min(cap, base · 2^(n−1)); None when the pull has failed.

    :param n_fruitless: attempts in a row that brought nothing new, this one included; 0 after one that did
    :param bytes_seen: the most bytes that any attempt of this pull has had
    """
    if isinstance(error, PullPaused):
        return 0.0
    if not isinstance(error, (RegistryTrouble, EngineDown, EngineSilent, EngineRefused)):
        return None
    is_first_contact = bytes_seen == 0 and isinstance(error, RegistryError)
    if n_fruitless >= (policy.first_attempts if is_first_contact else policy.attempts):
        return None
    return float(min(policy.cap_s, policy.base_s * 2 ** max(0, n_fruitless - 1)))


# pull model manifest: 403: {"errors":[…]}
_MANIFEST_STATUS: Final = re.compile(r"pull model manifest: (?P<status>4\d\d)\b")
_PASSING_STATUSES: Final = frozenset({"408", "425", "429"})
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
        return DiskFull(
            said, hint="Free space on the disk that holds the models and pull again; it goes on from here."
        )
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
    if "unauthorized" in text or "access denied" in text:
        return "The model does not exist or needs an account."
    manifest = _MANIFEST_STATUS.search(text)
    if manifest is not None and manifest["status"] not in _PASSING_STATUSES:
        return "Check name and tag."
    return None


def _hint_when_passing(text: str) -> str | None:
    if text.strip() in _DAMAGED_PART:
        return "A part file of the download is damaged; cancel it with ?purge=true and pull again."
    if "no such host" in text or "dial tcp" in text:
        return "Check the network and the name of the registry."
    return None
