"""Guards `stats` against daemons of other versions: whatever the body holds, something is shown and nothing raised."""

from __future__ import annotations

from typing import Final

from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from arasul_supervisor.cli.stats_table import stats_view
from arasul_supervisor.cli.stats_words import sample_line, sparkline

SCALARS: Final = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.just("ok"), st.just(1e308)
)
LISTS: Final = st.lists(SCALARS, max_size=3)


def part(*keys: str, **parts: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    """An object with any of these keys and any values, or something else in its place."""
    values = {key: st.one_of(SCALARS, LISTS) for key in keys}
    return st.one_of(st.fixed_dictionaries({}, optional={**values, **parts}), SCALARS)


def listed(item: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.one_of(st.lists(item, max_size=3), SCALARS)


GPU: Final = part(
    *(
        "index",
        "name",
        "state",
        "utilization_percent",
        "memory_used_bytes",
        "memory_total_bytes",
        "memory_kind",
    ),
    *(
        "temperature_c",
        "power_watts",
        "power_limit_watts",
        "clock_mhz",
        "clock_max_mhz",
        "throttled",
        "fan_percent",
    ),
    *("throttle_reasons", "last_xid", "stale", "age_s"),
    mig=part("enabled", "instances"),
)
HOST: Final = part(
    *("stale", "age_s", "emc_percent"),
    cpu=part("percent", "cpus", "limit_cpus"),
    load=part("load_1m", "load_5m", "load_15m"),
    memory=part("used_percent", "total_bytes", "available_bytes", "swap_total_bytes", "swap_free_bytes"),
    memory_pressure=part("some_avg10"),
    oom=part("kills_total", "cgroup_kills_total"),
    store=part("folder", "total_bytes", "free_bytes", "used_percent"),
    power=part("total_watts", "total_scope", rails=listed(part("label", "watts", "alarm"))),
    temperatures_c=part("cpu", "gpu"),
    temperature_limits_c=part(cpu=part("passive", "critical"), gpu=part("critical")),
    throttle_alerts=part("cpu", "gpu"),
    overcurrent=part("oc1", "oc3"),
    fans=listed(part("name", "percent", "rpm")),
)
PROCESS: Final = part(
    *("pid", "cpu_percent", "rss_bytes", "pss_bytes", "processes", "threads", "open_fds"),
    runners=listed(
        part("pid", "model", "models", "model_blob", "cpu_percent", "rss_bytes", "gpu_memory_bytes")
    ),
)
BODY: Final = st.fixed_dictionaries(
    {},
    optional={
        "timestamp": SCALARS,
        "cpu_percent": SCALARS,
        "gpus": listed(GPU),
        "gpu_sources": listed(part("source", "state", "detail", "age_s", "stale")),
        "gpu_source": part("source", "state", "detail"),
        "host": HOST,
        "engine": PROCESS,
        "daemon": PROCESS,
        "platform": part("kind", "model", "l4t", "jetpack", "cuda", "container"),
    },
)


@settings(max_examples=60)
@given(BODY, st.fixed_dictionaries({}, optional={"samples": listed(part("gpu_utilization", "cpu_percent"))}))
def test_any_body_is_shown(body: dict[str, object], history: dict[str, object]) -> None:
    console = Console(width=80)

    with console.capture() as drawn:
        console.print(stats_view(body, history))

    assert drawn.get().strip()
    assert sample_line(body)


@given(st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), max_size=200), st.integers(1, 60))
def test_a_line_of_blocks_is_never_wider_than_asked(values: list[float | None], width: int) -> None:
    assert len(sparkline(values, width=width)) == min(width, len(values))
