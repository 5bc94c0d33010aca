"""What a handler gives back: a whole answer, or lines that come one by one."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Line = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer. `content` is a value that becomes JSON, or bytes that are JSON already."""

    content: Any  # any value that msgspec can write: a view, a mapping, bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LineStream:
    """An answer of one JSON object per line (`application/x-ndjson`), each sent as it comes.

    `on_client_gone` is called when the client leaves before the last line; not when the daemon ends.
    """

    lines: AsyncGenerator[Line, None]
    on_client_gone: Callable[[], None] | None = None


Answer = Reply | LineStream
