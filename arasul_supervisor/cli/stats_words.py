"""The figures of `/api/stats` in words. Pure; survives a body of which any key is missing, null or strange."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Final

from arasul_supervisor.cli.bodies import number, part, printable, word
from arasul_supervisor.cli.client import objects

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from arasul_supervisor.cli.bodies import Body

UNKNOWN: Final = "–"
BLOCKS: Final = "▁▂▃▄▅▆▇█"
GIB: Final = 2**30
STATES: Final = {
    "gated": "asleep",
    "lost": "lost",
    "reset_required": "needs a reset",
    "driver_mismatch": "driver and library differ",
    "no_driver": "no driver",
    "no_access": "out of reach",
    "stuck": "the driver hangs",
    "none": "none",
}
WELL: Final = ("ok", "gated")
REASONS: Final = {
    "gpu_idle": "idle",
    "applications_clocks": "clocks set by a user",
    "sw_power_cap": "at its power limit",
    "hw_slowdown": "slowed by the hardware",
    "sync_boost": "in step with other GPUs",
    "sw_thermal_slowdown": "slowed by the driver for heat",
    "hw_thermal_slowdown": "slowed by the hardware for heat",
    "hw_power_brake": "slowed by the power supply",
    "display_clocks": "clocks of the display",
}


@dataclass(frozen=True, slots=True)
class GpuCells:
    """One GPU: the cells of its row, and what stands below them. `mood` is `plain`, `warn` or `bad`."""

    name: str
    percent: float | None
    memory: str
    temperature: str
    power: str
    detail: str
    mood: str


def gpu_cells(gpu: Body) -> GpuCells:
    """What is shown of an entry of `gpus`."""
    index, name = number(gpu, "index"), word(gpu, "name") or word(gpu, "id")
    state, throttled = word(gpu, "state"), gpu.get("throttled") is True
    is_well = state in WELL or not state
    return GpuCells(
        name=f"{index:.0f} {name or UNKNOWN}" if index is not None else name or UNKNOWN,
        percent=number(gpu, "utilization_percent"),
        memory=_memory(gpu),
        temperature=celsius_text(number(gpu, "temperature_c")),
        power=_of(number(gpu, "power_watts"), number(gpu, "power_limit_watts"), "W"),
        detail=" · ".join(_details(gpu)),
        mood="bad" if not is_well else "warn" if throttled or gpu.get("stale") is True else "plain",
    )


def source_lines(stats: Body) -> Iterator[str]:
    """A sentence for each source of GPU figures that is not well, or whose figures are old.

    Where there is nothing to ask, one sentence is told, and that only where no GPU is known; jtop was asked for.
    """
    sources = objects(stats, "gpu_sources")
    older = stats.get("gpu_source")  # a daemon that knew one source only
    is_told = bool(objects(stats, "gpus"))
    for source in sources or ([older] if isinstance(older, dict) else []):
        state, detail = word(source, "state"), word(source, "detail")
        if state == "none" and word(source, "source") != "jtop":
            if is_told:
                continue
            is_told = True
        if state not in WELL:
            name = word(source, "source") or "The source"
            yield detail or f"{name}: {STATES.get(state, state) or 'no answer yet'}."
        elif source.get("stale") is True:
            yield f"{detail} The last figures are {age_text(number(source, 'age_s'))} old.".lstrip()


def sample_line(stats: Body) -> str:
    """One sample on one line: `2026-11-23 15:04:05 UTC  gpu0 98 % 28.5/61.4 GiB 64 °C  cpu 4 %  memory 46 %`."""
    gpus = [
        f"gpu{cells.name.split()[0]} {percent_text(cells.percent)} {cells.memory} {cells.temperature}"
        for cells in map(gpu_cells, objects(stats, "gpus"))
    ]
    memory = part(part(stats, "host"), "memory")
    engine = part(stats, "engine")
    return printable(
        "  ".join(
            (
                moment_text(number(stats, "timestamp")),
                *(gpus or [f"gpu {UNKNOWN}"]),
                f"cpu {percent_text(number(stats, 'cpu_percent'))}",
                f"memory {percent_text(number(memory, 'used_percent'))}",
                f"engine {bytes_text(number(engine, 'rss_bytes'))}",
            )
        )
    )


def percent_text(percent: float | None) -> str:
    """`98 %`; one decimal below 10."""
    if percent is None:
        return UNKNOWN
    return f"{percent:.1f} %" if 0 < percent < 9.95 else f"{percent:.0f} %"


def celsius_text(celsius: float | None) -> str:
    """`64 °C`."""
    return UNKNOWN if celsius is None else f"{celsius:.0f} °C"


def bytes_text(size_bytes: float | None) -> str:
    """Memory in binary units, as nvidia-smi and free count: `28.5 GiB`, `512 MiB`."""
    if size_bytes is None:
        return UNKNOWN
    if size_bytes < GIB:
        return f"{size_bytes / 2**20:.0f} MiB"
    return f"{size_bytes / GIB:.{0 if size_bytes >= 100 * GIB else 1}f} GiB"


def pair_text(used_bytes: float | None, total_bytes: float | None) -> str:
    """`28.5/61.4 GiB`; the unit is the total's."""
    if total_bytes is None:
        return bytes_text(used_bytes)
    unit, size, digits = ("MiB", 2**20, 0) if total_bytes < GIB else ("GiB", GIB, 1)
    digits = 0 if total_bytes >= 100 * GIB else digits
    used = UNKNOWN if used_bytes is None else f"{used_bytes / size:.{digits}f}"
    return f"{used}/{total_bytes / size:.{digits}f} {unit}"


def age_text(age_s: float | None) -> str:
    """`34 s`, `12 min`, `3 h`."""
    if age_s is None:
        return UNKNOWN
    for size, unit in ((3600, "h"), (60, "min")):
        if age_s >= 2 * size:
            return f"{age_s / size:.0f} {unit}"
    return f"{age_s:.0f} s"


def moment_text(epoch_s: float | None) -> str:
    """`2026-11-23 15:04:05 UTC`."""
    try:
        moment = datetime.fromtimestamp(epoch_s or math.nan, timezone.utc)
    except (ValueError, OverflowError, OSError):
        return UNKNOWN
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")


def count_text(count: float | None, singular: str, plural: str) -> str:
    """`1 thread`, `34 threads`."""
    return UNKNOWN + f" {plural}" if count is None else f"{count:.0f} {singular if count == 1 else plural}"


def sparkline(values: Iterable[float | None], *, width: int, top: float = 100.0) -> str:
    """The values as one line of blocks, oldest first, each the mean of its share; unknown is a blank."""
    points = list(values)
    width = min(width, len(points))
    shares = [points[at * len(points) // width : (at + 1) * len(points) // width] for at in range(width)]
    drawn: list[str] = []
    for share in shares:
        known = [value for value in share if value is not None]
        level = sum(known) / len(known) / top if known else math.nan
        drawn.append(" " if math.isnan(level) else BLOCKS[min(7, max(0, int(level * 8)))])
    return "".join(drawn)


def _memory(gpu: Body) -> str:
    """`28.5/61.4 GiB unified`."""
    sizes = pair_text(number(gpu, "memory_used_bytes"), number(gpu, "memory_total_bytes"))
    return sizes if sizes == UNKNOWN else f"{sizes} {word(gpu, 'memory_kind')}".rstrip()


def _details(gpu: Body) -> Iterator[str]:
    state = word(gpu, "state")
    yield STATES.get(state, state) or UNKNOWN
    yield _of(number(gpu, "clock_mhz"), number(gpu, "clock_max_mhz"), "MHz")
    reasons = gpu.get("throttle_reasons")
    if isinstance(reasons, list) and reasons:
        yield ", ".join(
            REASONS.get(str(reason), str(reason).replace("_", " ").replace("-", " ")) for reason in reasons
        )
    elif gpu.get("throttled") is True:
        yield "slowed down"
    if (fan := number(gpu, "fan_percent")) is not None:
        yield f"fan {percent_text(fan)}"
    mig = part(gpu, "mig")
    if mig.get("enabled") is True:
        yield f"MIG, {count_text(len(objects(mig, 'instances')), 'slice', 'slices')}"
    if (xid := number(gpu, "last_xid")) is not None:
        yield f"last Xid {xid:.0f}"
    if gpu.get("stale") is True:
        yield f"{age_text(number(gpu, 'age_s'))} old"


def _of(value: float | None, limit: float | None, unit: str) -> str:
    """`632/700 W`, `33 W`, `–`."""
    if value is None and limit is None:
        return UNKNOWN
    known = UNKNOWN if value is None else f"{value:.0f}"
    return f"{known} {unit}" if limit is None else f"{known}/{limit:.0f} {unit}"
