"""The lines of `/api/pull`: from chunks to values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final

import msgspec

from arasul_supervisor.ollama.refusals import NOT_AS_EXPECTED, garbled

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_LINE_BYTES: Final = 64 * 1024
SUCCESS: Final = "success"

Bytes = Annotated[int, msgspec.Meta(ge=0)]


@dataclass(frozen=True, slots=True)
class PullLine:
    """One step of a pull; `digest`, `total` and `completed` are of one layer, in bytes."""

    status: str
    digest: str | None = None
    total: int | None = None
    completed: int | None = None

    def as_json(self) -> Mapping[str, object]:
        """The line as Ollama writes it: without what it has not."""
        fields = {
            "status": self.status,
            "digest": self.digest,
            "total": self.total,
            "completed": self.completed,
        }
        return {name: field for name, field in fields.items() if field is not None}


@dataclass(frozen=True, slots=True)
class PullError:
    """The last line of a pull that failed, in Ollama's words."""

    text: str


class _RawLine(msgspec.Struct):
    # {"status":"pulling cb823f5d9f88","digest":"sha256:cb82…","total":450784,"completed":450784}
    # {"error":"pull model manifest: file does not exist"}
    status: str = ""
    digest: str | None = None
    total: Bytes | None = None
    completed: Bytes | None = None
    error: str | None = None


_DECODER: Final = msgspec.json.Decoder(_RawLine)


def parse_line(raw: bytes) -> PullLine | PullError:
    """One line of the stream.

    :raises EngineRefused: when it is none of Ollama's
    """
    try:
        line = _DECODER.decode(raw)
    except NOT_AS_EXPECTED as error:
        raise garbled("pull a model", str(error)) from None
    if line.error is not None:
        return PullError(line.error)
    if not line.status:
        raise garbled("pull a model", "a line has neither status nor error")
    completed = 0 if line.completed is None and line.total is not None else line.completed
    return PullLine(line.status, line.digest or None, line.total, completed)


class LineSplitter:
    """Cuts chunks into lines; keeps at most one unfinished line of bounded length."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that this chunk completes, without blank ones.

        :raises EngineRefused: when a line grows beyond 64 KiB
        """
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > MAX_LINE_BYTES:
            raise garbled("pull a model", f"a line is longer than {MAX_LINE_BYTES} bytes")
        return [line for line in lines if line.strip()]

    def rest(self) -> list[bytes]:
        """The last line when the stream ended without a line feed."""
        line, self._rest = self._rest, b""
        return [line] if line.strip() else []
