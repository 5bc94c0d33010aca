"""The bars of a pull on a terminal: one per layer, with bytes, speed and time left."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from arasul_supervisor.cli.pull_progress import layer_of

if TYPE_CHECKING:
    from collections.abc import Mapping


class BarProgress:
    """A bar for each layer; other words stand above the bars, `success` below them."""

    def __init__(self) -> None:
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=Console(highlight=False),
        )
        self._tasks: dict[object, TaskID] = {}
        self._status: object = None
        self._last_word = ""

    def __enter__(self) -> BarProgress:
        self._bars.start()
        return self

    def __exit__(self, *end: object) -> None:
        self._bars.stop()
        if self._last_word:
            self._bars.console.print(escape(self._last_word))

    def show(self, line: Mapping[str, object]) -> None:
        """Moves the layer's bar, or prints a new word."""
        status, digest = line.get("status"), line.get("digest")
        layer = layer_of(line)
        if status == "success":
            self._last_word = "success"
            return
        if layer is None:
            if status is not None and status != self._status:
                self._bars.console.print(escape(str(status)))
            self._status = status
            return
        completed, total = layer
        if digest not in self._tasks:
            # What an earlier pull brought counts from the start, else it would show as speed.
            self._tasks[digest] = self._bars.add_task(escape(str(status)), total=total, completed=completed)
        self._bars.update(self._tasks[digest], total=total, completed=completed)
