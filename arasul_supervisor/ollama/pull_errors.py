"""What Ollama says of a pull that failed, as one of our errors: pure."""

from __future__ import annotations

import re
from typing import Final

from arasul_supervisor.errors import (
    ArasulError,
    BadInput,
    DiskFull,
    ModelNotFound,
    RegistryError,
    StoreNotWritable,
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


# pull model manifest: 403: {"errors":[…]}
_MANIFEST_STATUS: Final = re.compile(r"pull model manifest: (?P<status>4\d\d)\b")
_OF_THE_NAME: Final = frozenset({"400", "401", "403", "404", "410"})
_PASSING_STATUSES: Final = frozenset({"408", "425", "429"})
# open /models/blobs/sha256-ab…-partial-0: read-only file system
_NOT_WRITABLE: Final = re.compile(r"/(?:blobs|manifests)/.*: (?:read-only file system|permission denied)")
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
    if _NOT_WRITABLE.search(text):
        return StoreNotWritable(
            said, hint="The folder of the models must be writable for the user that Ollama runs as."
        )
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
    if manifest is None or manifest["status"] in _PASSING_STATUSES:
        return None
    return (
        "Check name and tag." if manifest["status"] in _OF_THE_NAME else "The registry's operator knows why."
    )


def _hint_when_passing(text: str) -> str | None:
    if "no such host" in text or "dial tcp" in text:
        return "Check the network and the name of the registry."
    return None
