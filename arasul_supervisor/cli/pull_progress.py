"""How a job is shown as it goes on: lines for machines, for pipes and for log files. progress_bar.py has the bars."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Protocol

from arasul_supervisor.cli.bodies import part, printable, word
from arasul_supervisor.cli.job_words import (
    figures_of,
    layer_of,
    line_of,
    pace_text,
    setback_text,
    step_text,
)
from arasul_supervisor.cli.output import note, print_json, size_text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType


class Progress(Protocol):
    """Shows a job as it goes on."""

    def __enter__(self) -> Progress: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...
    def show(self, line: Mapping[str, object], /) -> None:
        """A line of a pull's stream."""

    def show_job(self, job: Mapping[str, object], /) -> None:
        """A job that was asked for by its id."""

    def tell(self, sentence: str, /) -> None:
        """A remark of ours, which is no part of the progress."""


def progress_for(*, is_json: bool) -> Progress:
    """The way to show it here: JSON when asked for, bars on a terminal, plain lines elsewhere."""
    if is_json:
        return JsonProgress()
    if sys.stdout is None or not sys.stdout.isatty():
        return PlainProgress()
    from arasul_supervisor.cli.progress_bar import BarProgress

    return BarProgress()


class JsonProgress:
    """The lines as they are, and a job each time it changed."""

    def __init__(self) -> None:
        self._job: Mapping[str, object] | None = None

    def __enter__(self) -> JsonProgress:
        return self

    def __exit__(self, *end: object) -> None:
        pass

    def show(self, line: Mapping[str, object]) -> None:
        """Prints the line."""
        print_json(line)
        if sys.stdout is not None:  # None: started with stdout closed
            sys.stdout.flush()

    def show_job(self, job: Mapping[str, object]) -> None:
        """Prints the job when it is news."""
        if job != self._job:
            self.show(job)
        self._job = job

    def tell(self, sentence: str) -> None:
        """Says it on stderr."""
        note(sentence)


class PlainProgress:
    """A line for each new status, and one for each tenth: of the whole, or of a layer where that is not known."""

    def __init__(self) -> None:
        self._status = ""
        self._setback = ""
        self._tenths: dict[object, int] = {}

    def __enter__(self) -> PlainProgress:
        return self

    def __exit__(self, *end: object) -> None:
        pass

    def show(self, line: Mapping[str, object]) -> None:
        """Prints what is new in the line."""
        if text := self._news(line):
            print(printable(text), flush=True)
        self._status = word(line, "status")

    def show_job(self, job: Mapping[str, object]) -> None:
        """Prints what is new in the job."""
        self.show(line_of(job))

    def tell(self, sentence: str) -> None:
        """Says it on stderr."""
        note(sentence)

    def _news(self, line: Mapping[str, object]) -> str:
        status = word(line, "status")
        if (setback := setback_text(line)) is not None:
            return self._new_setback(setback)
        figures, layer = figures_of(part(line, "job")), layer_of(line)
        if layer is None:
            return status if status != self._status else ""
        whole = (figures.completed_bytes, figures.total_bytes) if figures.total_bytes else None
        tenth = self._new_tenth(None if whole else line.get("digest"), *(whole or layer))
        return (
            ", ".join(filter(None, (f"{status}: {tenth}", pace_text(figures), step_text(figures))))
            if tenth
            else ""
        )

    def _new_setback(self, setback: str) -> str:
        before, self._setback = self._setback, setback
        return setback if setback != before else ""

    def _new_tenth(self, key: object, completed: int, total: int) -> str:
        """`30 % of 15.7 GB`; nothing when that was said already."""
        tenth = completed * 10 // total
        if self._tenths.get(key) == tenth:
            return ""
        self._tenths[key] = tenth
        return f"{tenth * 10} % of {size_text(total)}"
