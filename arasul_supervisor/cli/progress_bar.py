"""The bars of a job on a terminal: one for the whole, and one per layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.table import Column
from rich.text import Text

from arasul_supervisor.cli.bodies import part, printable, word
from arasul_supervisor.cli.job_words import (
    JobFigures,
    figures_of,
    layer_of,
    line_of,
    pace_text,
    setback_text,
    step_text,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

WHOLE: Final = "whole"


class BarProgress:
    """Bars with bytes, speed and time left; other words stand above them, `success` below."""

    def __init__(self) -> None:
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None, table_column=Column(ratio=1)),
            DownloadColumn(table_column=Column(no_wrap=True)),
            _PaceColumn(table_column=Column(no_wrap=True)),
            console=Console(highlight=False),
            expand=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._tasks: dict[object, TaskID] = {}
        self._said = ""
        self._last_word = ""

    def __enter__(self) -> BarProgress:
        self._bars.start()
        return self

    def __exit__(self, *end: object) -> None:
        self._bars.stop()
        if self._last_word:
            self._print(self._last_word)

    def show(self, line: Mapping[str, object]) -> None:
        """Moves the bars, or prints a new word."""
        status, figures = word(line, "status"), figures_of(part(line, "job"))
        self._show_whole(figures)
        if status == "success":
            self._last_word = status
            return
        setback, layer = setback_text(line), layer_of(line)
        if setback is None and layer is not None:
            self._show_layer(line.get("digest"), status, layer, is_paced=not figures.state)
        elif text := setback or status:
            self._say(text)

    def show_job(self, job: Mapping[str, object]) -> None:
        """Moves the bar of the whole, or prints a new word."""
        line, figures = line_of(job), figures_of(job)
        self._show_whole(figures)
        if layer_of(line) is None:
            self._say(word(line, "status"))

    def tell(self, sentence: str) -> None:
        """Says it above the bars."""
        self._print(sentence)

    def _show_whole(self, figures: JobFigures) -> None:
        if not figures.total_bytes:
            return
        state = "" if figures.state == "running" else figures.state
        self._move(
            WHOLE,
            ", ".join(filter(None, (state, step_text(figures)))) or "in all",
            (figures.completed_bytes, figures.total_bytes),
            pace=pace_text(figures),
        )

    def _show_layer(self, digest: object, status: str, layer: tuple[int, int], *, is_paced: bool) -> None:
        """A layer has a pace of its own only where the daemon does not tell that of the whole."""
        self._move(("layer", digest), status, layer, pace=None if is_paced else "")

    def _move(self, key: object, description: str, done: tuple[int, int], *, pace: str | None) -> None:
        completed, total = done
        text = printable(description)
        if key not in self._tasks:
            # What an earlier pull brought counts from the start, else it would show as speed.
            self._tasks[key] = self._bars.add_task(text, total=total, completed=completed, pace=pace)
        self._bars.update(self._tasks[key], description=text, total=total, completed=completed, pace=pace)

    def _say(self, text: str) -> None:
        """Prints a word that is news."""
        if text != self._said:
            self._print(text)
        self._said = text

    def _print(self, text: str) -> None:
        self._bars.console.print(Text(printable(text)))


class _PaceColumn(ProgressColumn):
    """Speed and time left: the daemon's own figures where it tells them, else those of this bar."""

    def render(self, task: Task) -> Text:
        pace = task.fields.get("pace")
        if pace is None:
            own = JobFigures(
                "", 0, None, None, None, 0, task.finished_speed or task.speed, task.time_remaining
            )
            pace = pace_text(own)
        return Text(pace)
