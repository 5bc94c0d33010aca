"""How `stats` is drawn: colours and moving figures on a terminal, the same words without them elsewhere."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from rich.console import Console, Group
from rich.live import Live
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from arasul_supervisor.cli.bodies import number, part, printable, word
from arasul_supervisor.cli.client import objects
from arasul_supervisor.cli.stats_rows import engine_rows, history_rows, host_rows
from arasul_supervisor.cli.stats_words import gpu_cells, moment_text, percent_text, source_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from rich.console import RenderableType

    from arasul_supervisor.cli.bodies import Body
    from arasul_supervisor.cli.stats_rows import Row

PLAIN_WIDTH: Final = 80
MOST_WIDTH: Final = 100
BAR_WIDTH: Final = 8
NAME_WIDTH: Final = 25
LABEL_WIDTH: Final = 13
EIGHTHS: Final = ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")
STYLES: Final = {"plain": "", "warn": "yellow", "bad": "bold red"}


def print_stats(stats: Body, history: Body) -> None:
    """One sample on stdout; without the blanks that fill a line up where no terminal reads it."""
    console = _console()
    with console.capture() as drawn:
        console.print(stats_view(stats, history))
    lines = drawn.get().splitlines()
    print("\n".join(lines if console.is_terminal else (line.rstrip() for line in lines)))


def stats_view(stats: Body, history: Body) -> RenderableType:
    """The whole of one sample."""
    host = (*host_rows(stats), *history_rows(history))
    return Group(
        _headline(stats),
        *_gpus(stats),
        Text(),
        _rows(host),
        Text(),
        _rows(tuple(engine_rows(stats))),
    )


class LiveTable:
    """Samples drawn over each other; the last one stays when it ends."""

    def __init__(self, history: Callable[[], Body]) -> None:
        """Draw on stdout; `history` asks the daemon for the last minutes."""
        self._history = history
        # no thread draws: each sample draws itself
        self._live = Live(
            console=_console(), auto_refresh=False, redirect_stdout=False, redirect_stderr=False
        )

    def __enter__(self) -> LiveTable:
        self._live.start()
        return self

    def __exit__(self, *end: object) -> None:
        self._live.stop()

    def show(self, stats: Mapping[str, object]) -> None:
        """Draws the sample, with the history as the daemon has it now."""
        self._live.update(stats_view(stats, self._history()), refresh=True)

    def show_absence(self, sentence: str) -> None:
        """Says why there is no new sample, in the place of the old one, which passes for none."""
        self._live.update(_text(f"{sentence} Waiting for it.", style=STYLES["bad"]), refresh=True)


def _console() -> Console:
    """On stdout, at most as wide as lines stay readable; 80 columns where there is no terminal."""
    console = Console(highlight=False, soft_wrap=False)
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    elif not os.environ.get("COLUMNS"):
        console.width = min(console.width, MOST_WIDTH)
    return console


def _headline(stats: Body) -> Text:
    platform = part(stats, "platform")
    words = (
        word(platform, "model") or word(platform, "kind"),
        f"L4T {word(platform, 'l4t')}" if word(platform, "l4t") else "",
        f"JetPack {word(platform, 'jetpack')}" if word(platform, "jetpack") else "",
        f"CUDA {word(platform, 'cuda')}" if word(platform, "cuda") else "",
        "in a container" if platform.get("container") is True else "",
        moment_text(number(stats, "timestamp")),
    )
    return _text(" · ".join(filter(None, words)), style="dim")


def _gpus(stats: Body) -> Iterator[RenderableType]:
    """Two lines for each GPU, and the sentences of sources that are not well."""
    gpus = [gpu_cells(gpu) for gpu in objects(stats, "gpus")]
    sentences = list(source_lines(stats))
    if gpus:
        yield Text()
        yield _line("GPU", Text("load"), "memory", "temp", "power", style="bold")
    for cells in gpus:
        load = _bar(cells.percent, width=6).append(f" {percent_text(cells.percent):>5}")
        yield _line(cells.name, load, cells.memory, cells.temperature, cells.power)
        yield Padding(_text(cells.detail, style=STYLES[cells.mood] or "dim"), (0, 0, 0, 2))
    for sentence in sentences:
        yield _text(f"GPU: {sentence}", style=STYLES["warn"] if gpus else "")
    if not gpus and not sentences:
        yield Text("GPU: none is known.")


def _line(name: str, load: Text, memory: str, temperature: str, power: str, *, style: str = "") -> Text:
    """The cells at their places; 79 columns in all."""
    line = Text(no_wrap=True)
    for cell, width in ((_text(name), NAME_WIDTH), (load, 12), (_text(memory), 23)):
        cell.truncate(width, overflow="ellipsis", pad=True)
        line.append_text(cell).append(" ")
    line.append(f"{temperature:>6} {power:>9}")
    line.stylize(style)
    return line


def _rows(rows: tuple[Row, ...]) -> Table:
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(width=LABEL_WIDTH, no_wrap=True)
    table.add_column(overflow="fold")
    for row in rows:
        value = _text(row.value, style=STYLES[row.mood])
        if row.has_bar:
            value = _bar(row.percent, width=BAR_WIDTH).append(" ").append_text(value)
        table.add_row(Text(row.label, style="bold"), value)
    return table


def _text(words: str, *, style: str = "") -> Text:
    """What others may have named, so that no name of theirs is obeyed by the terminal."""
    return Text(printable(words), style=style)


def _bar(percent: float | None, *, width: int) -> Text:
    """`██████▍░`; of an unknown share only the ground."""
    eighths = 0 if percent is None else round(8 * width * min(100.0, max(0.0, percent)) / 100)
    full = "█" * (eighths // 8) + EIGHTHS[eighths % 8]
    return Text(full, style="cyan").append("░" * (width - len(full)), style="dim")
