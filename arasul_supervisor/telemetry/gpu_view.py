"""The GPUs as they may be shown at a given instant: nothing old passes for new, no figure passes for another. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from arasul_supervisor.telemetry.gpu.cards import aged, cards_of, is_fresh
from arasul_supervisor.telemetry.gpu.merge import gpu_entry

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from arasul_supervisor.telemetry.board import BoardFigures
    from arasul_supervisor.telemetry.gpu.cards import Aged, Card
    from arasul_supervisor.telemetry.gpu.readings import SourceReport
    from arasul_supervisor.telemetry.host import HostMemory


@dataclass(frozen=True, slots=True)
class GpuView:
    """What is known of the GPUs now; figures that are too old are gone."""

    sources: tuple[Aged, ...]
    cards: tuple[Card, ...]
    now_mono: float

    @property
    def own_cards(self) -> tuple[Card, ...]:
        """Without those of others, which a driver may list beside ours; all of them where none is ours."""
        return tuple(card for card in self.cards if not card.is_foreign) or self.cards

    @property
    def age_s(self) -> float | None:
        """Of the oldest card's figures."""
        return max((card.age_s for card in self.cards if card.age_s is not None), default=None)

    @property
    def has_answered(self) -> bool:
        """Whether each source has come to the end of one attempt."""
        return all(source.report.has_answered for source in self.sources)

    @property
    def has_worked(self) -> bool:
        """Whether a GPU has answered in this life."""
        return any(source.report.has_worked for source in self.sources)

    @property
    def board(self) -> BoardFigures | None:
        """The board's own figures, where a child reads them and they are not too old."""
        found = (source.report.board for source in self.sources if not source.is_stale)
        return next((board for board in found if board is not None), None)

    @property
    def cuda_version(self) -> str | None:
        """The newest CUDA that the driver can serve."""
        found = (source.report.cuda_version for source in self.sources if is_fresh(source))
        return next((version for version in found if version is not None), None)

    @property
    def emc_percent(self) -> float | None:
        """Load of a Jetson's memory controller, which only jtop may read."""
        found = (source.report.emc_percent for source in self.sources if is_fresh(source))
        return next((percent for percent in found if percent is not None), None)


def view_gpus(reports: Sequence[SourceReport], *, now_mono: float, stale_after_s: float) -> GpuView:
    """The reports as they may be shown at `now_mono`."""
    sources = tuple(aged(report, now_mono=now_mono, stale_after_s=stale_after_s) for report in reports)
    return GpuView(sources, cards_of(sources), now_mono)


def gpu_entries(view: GpuView, host: HostMemory | None) -> list[dict[str, object]]:
    """`gpus[]`, JSON-ready. Memory that is the host's needs no GPU to answer, but goes with the others.

    `kept_age_s` has the age of each figure that is older than the card's own `age_s`, having failed in passing.
    """
    return [
        {
            **gpu_entry(card, None if card.is_stale else host),
            "last_xid_age_s": rounded(view.now_mono - card.last_xid[1]) if card.last_xid else None,
            "age_s": rounded(card.age_s),
            "stale": card.is_stale,
            "kept_age_s": {
                figure: rounded(view.now_mono - kept_mono)
                for reading in card.readings.values()
                for figure, kept_mono in reading.kept_since_mono.items()
            },
        }
        for card in view.cards
    ]


def source_entries(view: GpuView) -> list[dict[str, object]]:
    """`gpu_sources[]`: each source with its state and the sentence that says why."""
    return [
        {
            "source": source.report.source,
            "state": source.report.state if source.report.has_answered and not source.is_stale else None,
            "detail": source.report.sentence,
            "age_s": rounded(source.age_s),
            "stale": source.is_stale,
            "child_pid": source.report.child_pid,
        }
        for source in view.sources
    ]


def own_entries(view: GpuView, entries: list[dict[str, object]]) -> list[dict[str, object]]:
    """The entries of `view.own_cards`."""
    own = view.own_cards
    return [entry for card, entry in zip(view.cards, entries, strict=True) if card in own]


def flat_figures(entries: list[dict[str, object]]) -> Mapping[str, object]:
    """One figure for all GPUs: the highest load and temperature, the sum of memory in MiB as nvidia-smi counts it.

    None as soon as one is unknown: 0 % beside an unknown card would be a lie.
    """
    load = _all_known(entries, "utilization_percent")
    used = _all_known(entries, "memory_used_bytes")
    celsius = _all_known(entries, "temperature_c")
    return {
        "gpu_utilization": max(load) if load else None,
        "gpu_memory": round(sum(used) / 2**20) if used else None,
        "gpu_temperature": max(celsius) if celsius else None,
    }


def free_gpu_bytes(entries: list[dict[str, object]]) -> int | None:
    """Sum of the free memory of all GPUs; None as soon as one is unknown. Memory they share is counted once."""
    free = _all_known(entries, "memory_free_bytes")
    if free is None:
        return None
    shared = [part for part, entry in zip(free, entries, strict=True) if entry["memory_kind"] == "unified"]
    return int(sum(free) - sum(shared) + max(shared, default=0))


def rounded(seconds: float | None) -> float | None:
    """An age as JSON shows it, in milliseconds' steps."""
    return None if seconds is None else round(seconds, 3)


def _all_known(entries: list[dict[str, object]], figure: str) -> list[float] | None:
    values = [entry[figure] for entry in entries]
    numbers = [value for value in values if isinstance(value, (int, float))]
    return numbers if numbers and len(numbers) == len(values) else None
