"""What an answer of Ollama that is no success means, as one of our errors: pure."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from arasul_supervisor.errors import ArasulError, BadInput, DiskFull, EngineRefused, ModelNotFound

MAX_TEXT_CHARS: Final = 300

# {"error":"model 'zz:latest' not found"}   {"error":"model \"x\" not found, try pulling it first"}
_MODEL_NOT_FOUND: Final = re.compile(r"\bmodel\b.*\bnot found\b", re.DOTALL)
# {"error":"invalid model name"}   {"error":"name \"a b\" is invalid"}
_BAD_NAME: Final = re.compile(
    r"invalid model name|\b(?:name|source|destination) \".*\" is invalid", re.DOTALL
)
# All that msgspec raises for bytes that are not the JSON that was expected.
NOT_AS_EXPECTED: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

_NO_SPACE: Final = ("no space left on device", "disk quota exceeded")


class _ErrorBody(msgspec.Struct):
    error: str


def refusal(status: int, body: bytes, *, purpose: str) -> ArasulError:
    """The error for a status other than 200.

    :param purpose: what was asked, as it follows "Ollama refused to": `list the models`
    """
    text = own_text(body)
    if status == 404 and _MODEL_NOT_FOUND.search(text):
        return ModelNotFound(
            f"Ollama refused to {purpose}: {text}.", hint="GET /api/models lists what is installed."
        )
    if status == 400 and _BAD_NAME.search(text):
        return BadInput("Invalid model name format")
    if is_disk_full(text):
        return DiskFull(
            f"Ollama could not {purpose}: {text}.", hint="Free space on the disk that holds the models."
        )
    return EngineRefused(f"Ollama refused to {purpose} (status {status}): {text or 'it gave no reason'}.")


def garbled(purpose: str, reason: str) -> EngineRefused:
    """The error for an answer that no Ollama gives: HTML, broken JSON, another shape, an endless body."""
    return EngineRefused(
        f"Asked to {purpose}, the engine's address gave an answer that is not Ollama's: {shortened(reason)}.",
        hint="Something else may be listening there; GET /api/process names our own engine.",
    )


def own_text(body: bytes) -> str:
    """Ollama's error text, or the body itself where it is no error object; short and on one line."""
    try:
        text = msgspec.json.decode(body, type=_ErrorBody).error
    except NOT_AS_EXPECTED:
        text = body[: MAX_TEXT_CHARS * 4].decode("utf-8", "replace")
    return shortened(text)


def shortened(text: str) -> str:
    """One line of about 300 characters at most, without control characters and closing dot."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text[:2000]).split())
    return line.rstrip(" .") if len(line) <= MAX_TEXT_CHARS else f"{line[:MAX_TEXT_CHARS].rstrip(' .')} …"


def is_disk_full(text: str) -> bool:
    """True when the store's disk is what failed."""
    return any(mark in text for mark in _NO_SPACE)
