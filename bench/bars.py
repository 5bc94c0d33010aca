"""`python -m bench.bars [--record]`: has the daemon become slower, told by ratios that were measured side by side.

A bar is the ratio of a figure to what was measured beside it, with room for the noise of a shared machine; absolute
times are never asserted. A bench that misses is run again: what is slower misses each time, what was disturbed does
not.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from bench.__main__ import measure_of
from bench.figures import Goal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from bench.figures import Outcome

    Ratios = Mapping[str, float | None]

FILE: Final = Path(__file__).with_name("bars.json")
TRIES: Final = 3
NOT_MEASURED: Final = "NOT MEASURED"


@dataclass(frozen=True, slots=True)
class Bar:
    """A bound of one ratio: what was seen when it was recorded, with `room`, the factor by which it may be worse."""

    bench: str
    figure: str
    sense: Literal["<=", ">="]
    seen: float
    room: float

    @property
    def bar(self) -> float:
        """The worst that passes."""
        return self.seen * self.room if self.sense == "<=" else self.seen / self.room

    def is_met_by(self, ratio: float) -> bool:
        """Whether the ratio is no worse than it may be."""
        return Goal(self.sense, self.bar).is_met_by(ratio)


def main(argv: Sequence[str]) -> int:
    """Measure and compare. 1 when a bar was missed in each of three tries."""
    parser = argparse.ArgumentParser(prog="bench.bars", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--record", action="store_true", help="take the ratios of now as the bars")
    is_recording = parser.parse_args(argv).record
    began_s = time.monotonic()
    bars = read_bars()
    names = list(dict.fromkeys(bar.bench for bar in bars))
    found = {name: _try(name, [bar for bar in bars if bar.bench == name], is_recording) for name in names}
    if is_recording:
        bars = [replace(bar, seen=round(found[bar.bench].get(bar.figure) or bar.seen, 3)) for bar in bars]
        write_bars(bars)
    missed = [bar for bar in bars if is_missed(bar, found[bar.bench])]
    n_held = sum(_is_held(bar, found[bar.bench]) for bar in bars)
    print(
        f"{n_held} of {len(bars)} bars held, {len(missed)} missed, {len(bars) - n_held - len(missed)} not told,"
        f" {time.monotonic() - began_s:.0f} s."
    )
    return int(bool(missed) and not is_recording)


def is_missed(bar: Bar, ratios: Ratios) -> bool:
    """Whether that ratio is worse than its bar, or is not there at all; one that is not told was said to be so."""
    if bar.figure not in ratios:
        return True
    ratio = ratios[bar.figure]
    return ratio is not None and not bar.is_met_by(ratio)


def ratios_of(outcome: Outcome, bars: Sequence[Bar]) -> Ratios:
    """The ratio for each bar: None where the rounds differ too much, or the bench says that it cannot be measured."""
    told = {
        one.name: one.ratio if one.is_ratio_told else None for one in outcome.figures if one.ratio is not None
    }
    if any(NOT_MEASURED in remark for remark in outcome.remarks):
        told = dict.fromkeys((bar.figure for bar in bars), None) | told
    return {bar.figure: told[bar.figure] for bar in bars if bar.figure in told}


def read_bars() -> list[Bar]:
    """The recorded bars."""
    return [Bar(**one) for one in json.loads(FILE.read_text(encoding="utf-8"))]


def write_bars(bars: Iterable[Bar]) -> None:
    """Record them."""
    FILE.write_text(
        json.dumps([asdict(bar) for bar in bars], indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )


def _try(bench: str, bars: Sequence[Bar], is_recording: bool) -> Ratios:
    """The ratios of up to three runs; of each figure the first that meets its bar, else the last that was told."""
    best: dict[str, float | None] = {}
    for number in range(1, TRIES + 1):
        outcome = measure_of(bench)(is_quick=True)
        ratios = ratios_of(outcome, bars)
        for bar in (one for one in bars if not _is_held(one, best)):
            _tell(bar, ratios, outcome, number)
            if bar.figure in ratios:
                ratio = ratios[bar.figure]
                best[bar.figure] = best.get(bar.figure) if ratio is None else ratio
        if is_recording or all(_is_held(bar, best) for bar in bars):
            break
    return best


def _is_held(bar: Bar, best: Ratios) -> bool:
    ratio = best.get(bar.figure)
    return ratio is not None and bar.is_met_by(ratio)


def _tell(bar: Bar, ratios: Ratios, outcome: Outcome, number: int) -> None:
    what = f"{bar.bench}: {bar.figure}"
    ratio = ratios.get(bar.figure)
    if ratio is not None:
        verdict = "ok" if bar.is_met_by(ratio) else f"MISSED in try {number}"
        print(
            f"  {what}: {ratio:.2f} (bar {bar.sense} {bar.bar:.2f}, seen {bar.seen:g}) {verdict}", flush=True
        )
        return
    why = [remark for remark in outcome.remarks if NOT_MEASURED in remark]
    if bar.figure not in ratios:
        why = ["the bench gives no such figure"]
    print(f"  {what}: {'; '.join(why) or f'NOT TOLD: too noisy in try {number}'}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
