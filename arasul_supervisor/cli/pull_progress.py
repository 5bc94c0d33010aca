"""How a pull is shown as it comes: lines for machines, for pipes and for log files. The bars are in progress_bar.py."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Protocol

from arasul_supervisor.cli.output import print_json, size_text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType


class Progress(Protocol):
    """Shows the lines of a pull as they come."""

    def __enter__(self) -> Progress: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...
    def show(self, line: Mapping[str, object], /) -> None: ...


class JsonProgress:
    """The lines as they are."""

    def __enter__(self) -> JsonProgress:
        return self

    def __exit__(self, *end: object) -> None:
        pass

    def show(self, line: Mapping[str, object]) -> None:
        """Prints the line."""
        print_json(line)
        sys.stdout.flush()


class PlainProgress:
    """A line for each new status, and one for each tenth of a layer: for logs and pipes."""

    def __init__(self) -> None:
        self._status: object = None
        self._tenths: dict[object, int] = {}

    def __enter__(self) -> PlainProgress:
        return self

    def __exit__(self, *end: object) -> None:
        pass

    def show(self, line: Mapping[str, object]) -> None:
        """Prints what is new in the line."""
        status = line.get("status")
        layer = layer_of(line)
        if layer is None:
            if status is not None and status != self._status:
                print(status, flush=True)
        else:
            completed, total = layer
            tenth = completed * 10 // total
            if self._tenths.get(line.get("digest")) != tenth:
                print(f"{status}: {tenth * 10} % of {size_text(total)}", flush=True)
            self._tenths[line.get("digest")] = tenth
        self._status = status


def layer_of(line: Mapping[str, object]) -> tuple[int, int] | None:
    """Bytes so far and in all when the line speaks of a layer; None for a plain status."""
    total, completed = line.get("total"), line.get("completed", 0)
    if not isinstance(total, int) or not isinstance(completed, int) or total <= 0:
        return None
    return min(completed, total), total
