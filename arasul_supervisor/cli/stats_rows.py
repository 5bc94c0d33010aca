"""What `stats` says of the host, the engine and the daemon: a row of words for each figure worth a look. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from arasul_supervisor.cli.bodies import number, part, word
from arasul_supervisor.cli.client import objects
from arasul_supervisor.cli.output import size_text
from arasul_supervisor.cli.stats_words import (
    UNKNOWN,
    age_text,
    bytes_text,
    celsius_text,
    count_text,
    pair_text,
    percent_text,
    sparkline,
)
from arasul_supervisor.telemetry.board_watch import NEAR_CRITICAL_C, NEAR_PASSIVE_C

if TYPE_CHECKING:
    from collections.abc import Iterator

    from arasul_supervisor.cli.bodies import Body

SPARK_WIDTH: Final = 28
# facts/gpu.md §7.3: how near to its limit a zone is hot
NORMAL_OVERCURRENT: Final = "oc3"  # thousands an hour are normal on some boards


@dataclass(frozen=True, slots=True)
class Row:
    """A word, its value, and a share in percent where a bar helps. `mood` is `plain`, `warn` or `bad`."""

    label: str
    value: str
    percent: float | None = None
    has_bar: bool = False
    mood: str = "plain"


def host_rows(stats: Body) -> Iterator[Row]:
    """Processor, memory, disk, and what a board tells of itself."""
    host = part(stats, "host")
    if host.get("stale") is True:
        yield Row("age", f"these figures are {age_text(number(host, 'age_s'))} old", mood="warn")
    yield _cpu(stats, host)
    yield from _memory(host)
    yield from _store(part(host, "store"))
    yield from _board(host)


def history_rows(history: Body) -> Iterator[Row]:
    """Load of GPU and processor over the last minutes, where the daemon kept them."""
    samples = objects(history, "samples") or objects(history, "history")
    for label, key in (("gpu 15 min", "gpu_utilization"), ("cpu 15 min", "cpu_percent")):
        values = [number(sample, key) for sample in samples]
        known = [value for value in values if value is not None]
        if known:
            line = sparkline(values, width=SPARK_WIDTH)
            yield Row(label, f"{line}  highest {percent_text(max(known))}")


def engine_rows(stats: Body) -> Iterator[Row]:
    """The engine's tree, and the daemon's own process."""
    engine, daemon = part(stats, "engine"), part(stats, "daemon")
    if number(engine, "pid") is None:
        yield Row("engine", "not running" if "pid" in engine else UNKNOWN)
    else:
        yield Row("engine", _process(engine))
    for runner in objects(engine, "runners"):
        yield Row("  runner", _runner(runner))
    yield Row("daemon", _process(daemon))


def _cpu(stats: Body, host: Body) -> Row:
    cpu, load = part(host, "cpu"), part(host, "load")
    percent = number(cpu, "percent") if "percent" in cpu else number(stats, "cpu_percent")
    words = [percent_text(percent)]
    if (cpus := number(cpu, "cpus")) is not None:
        words.append(f"of {count_text(cpus, 'processor', 'processors')}")
    if (limit := number(cpu, "limit_cpus")) is not None:
        words.append(f"(limit {limit:g})")
    averages = [number(load, key) for key in ("load_1m", "load_5m", "load_15m")]
    if any(average is not None for average in averages):
        shown = (UNKNOWN if average is None else f"{average:.2f}" for average in averages)
        words.append(f"· load {' '.join(shown)}")
    return Row("cpu", " ".join(words), percent, has_bar=True)


def _memory(host: Body) -> Iterator[Row]:
    memory = part(host, "memory")
    used_percent = number(memory, "used_percent")
    words = [
        percent_text(used_percent),
        f"of {bytes_text(number(memory, 'total_bytes'))}",
        f"· {bytes_text(number(memory, 'available_bytes'))} available",
    ]
    total, free = number(memory, "swap_total_bytes"), number(memory, "swap_free_bytes")
    if total:
        words.append(f"· swap {pair_text(None if free is None else total - free, total)}")
    yield Row("memory", " ".join(words), used_percent, has_bar=True)
    if (limit := number(memory, "cgroup_limit_bytes")) is not None:
        yield Row(
            "limit",
            f"{pair_text(number(memory, 'cgroup_current_bytes'), limit)} of this container or service",
        )
    waiting = number(part(host, "memory_pressure"), "some_avg10")
    if waiting:
        yield Row("pressure", f"{percent_text(waiting)} of the time somebody waits for memory", mood="warn")
    oom = part(host, "oom")
    kills, own_kills = number(oom, "kills_total"), number(oom, "cgroup_kills_total")
    if kills or own_kills:
        words = [f"{count_text(kills, 'kill', 'kills')} on this machine since boot"]
        if own_kills is not None:
            words.append(f"{own_kills:.0f} in the engine's group")
        yield Row("out of memory", ", ".join(words), mood="warn" if own_kills else "plain")


def _store(store: Body) -> Iterator[Row]:
    total, free = number(store, "total_bytes"), number(store, "free_bytes")
    if total is None and free is None:
        return
    used_percent = number(store, "used_percent")
    if used_percent is None and total and free is not None:
        used_percent = 100 * (total - free) / total
    space = f"{percent_text(used_percent)} of {_disk_text(total)} · {_disk_text(free)} free"
    folder = word(store, "folder")
    yield Row("store", f"{space} · {folder}" if folder else space, used_percent, has_bar=True)


def _disk_text(size_bytes: float | None) -> str:
    """In decimal units, as the sizes of models are shown."""
    return UNKNOWN if size_bytes is None else size_text(size_bytes)


def _board(host: Body) -> Iterator[Row]:
    power = part(host, "power")
    rails = [
        f"{word(rail, 'label') or UNKNOWN} {watts_text(number(rail, 'watts'))}"
        for rail in objects(power, "rails")
    ]
    if rails:
        scope = word(power, "total_scope")
        total = f"{watts_text(number(power, 'total_watts'))} {f'({scope})' if scope else 'in all'}"
        yield Row("power", f"{total} · {', '.join(rails)}")
    alarms = [word(rail, "label") for rail in objects(power, "rails") if rail.get("alarm") is True]
    if alarms:
        yield Row("rail alarm", ", ".join(alarms), mood="bad")
    yield from _hottest(host)
    alerts = part(host, "throttle_alerts")
    if alerts:
        yield _alerts(alerts)
    overcurrent = part(host, "overcurrent")
    counted = [name for name in overcurrent if name != NORMAL_OVERCURRENT and number(overcurrent, name)]
    if counted:
        events = ", ".join(f"{name} {number(overcurrent, name):.0f}" for name in counted)
        yield Row("over-current", f"{events} since boot")
    if (emc_percent := number(host, "emc_percent")) is not None:
        yield Row("memory bus", percent_text(emc_percent), emc_percent, has_bar=True)
    fans = [_fan(fan) for fan in objects(host, "fans")]
    if fans:
        yield Row("fans", ", ".join(fans))


def _alerts(alerts: Body) -> Row:
    """`slowed down: gpu · unknown of cpu`; a dash where nothing is known."""
    unknown = [name for name in alerts if number(alerts, name) is None]
    if len(unknown) == len(alerts):
        return Row("alerts", UNKNOWN)
    raised = [name for name in alerts if (number(alerts, name) or 0) > 0]
    words = f"slowed down: {', '.join(raised)}" if raised else "none"
    if unknown:
        words += f" · unknown of {', '.join(unknown)}"
    return Row("alerts", words, mood="warn" if raised else "plain")


def _hottest(host: Body) -> Iterator[Row]:
    """The zone that is nearest to its limit; the warmest one where no limit is told."""
    zones, limits = part(host, "temperatures_c"), part(host, "temperature_limits_c")
    found: list[tuple[float, str]] = []
    for name in zones:
        celsius = number(zones, name)
        if celsius is not None:
            limit = _limit(part(limits, name))
            found.append((celsius - (limit[0] if limit else 1000.0), name))
    if not found:
        return
    _, name = max(found)
    celsius, limit = number(zones, name) or 0.0, _limit(part(limits, name))
    if limit is None:
        yield Row("hottest", f"{name} {celsius_text(celsius)}")
        return
    at, what, near = limit
    mood = "warn" if at - celsius <= near else "plain"
    yield Row("hottest", f"{name} {celsius_text(celsius)} · {what} at {at:g} °C", mood=mood)


def _limit(trips: Body) -> tuple[float, str, float] | None:
    """Where the zone's trouble begins, what happens there, and from how near on it is worth a warning."""
    if (passive := number(trips, "passive")) is not None:
        return passive, "slows down", NEAR_PASSIVE_C
    if (critical := number(trips, "critical")) is not None:
        return critical, "switches off", NEAR_CRITICAL_C
    return None


def _fan(fan: Body) -> str:
    speed = percent_text(number(fan, "percent"))
    rpm = number(fan, "rpm")
    return f"{word(fan, 'name') or 'fan'} {speed}" + (f" ({rpm:.0f} rpm)" if rpm is not None else "")


def watts_text(watts: float | None) -> str:
    """`22.9 W`."""
    return UNKNOWN if watts is None else f"{watts:.1f} W"


def _process(process: Body) -> str:
    pid = number(process, "pid")
    words = [
        f"pid {UNKNOWN if pid is None else f'{pid:.0f}'}",
        f"cpu {percent_text(number(process, 'cpu_percent'))}",
        f"{bytes_text(number(process, 'rss_bytes'))} RSS",
    ]
    if (pss := number(process, "pss_bytes")) is not None:
        words.append(f"{bytes_text(pss)} PSS")
    if (processes := number(process, "processes")) is not None:
        words.append(count_text(processes, "process", "processes"))
    if (threads := number(process, "threads")) is not None:
        words.append(count_text(threads, "thread", "threads"))
    if (open_fds := number(process, "open_fds")) is not None:
        words.append(count_text(open_fds, "fd", "fds"))
    return " · ".join(words)


def _runner(runner: Body) -> str:
    pid = number(runner, "pid")
    models = runner.get("models")
    named = [str(model) for model in models] if isinstance(models, list) else []
    model = word(runner, "model") or ", ".join(named) or word(runner, "model_blob")[:19] or UNKNOWN
    return " · ".join(
        (
            f"{'–' if pid is None else f'{pid:.0f}'} {model}",
            f"cpu {percent_text(number(runner, 'cpu_percent'))}",
            f"{bytes_text(number(runner, 'rss_bytes'))} RSS",
            f"GPU {bytes_text(number(runner, 'gpu_memory_bytes'))}",
        )
    )
