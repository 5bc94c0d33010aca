"""`python -m bench [NAME…] [--quick]`: measures, prints a table, keeps figures and raw samples as JSON."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.figures import table
from bench.machine import REPOSITORY, BusyMeter, machine_facts, machine_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.figures import Outcome

BENCHES: Final[dict[str, str]] = {
    "restart_latency": "bench.restarts.latency",
    "outage": "bench.restarts.outage",
    "survivors": "bench.restarts.survivors",
    "launch": "bench.restarts.launch",
    "footprint": "bench.restarts.footprint",
    "endpoints": "bench.answers.endpoints",
    "frozen": "bench.answers.frozen",
    "passthrough": "bench.answers.passthrough",
    "stalls": "bench.answers.stalls",
    "log_flood": "bench.logs.flood",
    "log_delay": "bench.logs.delay",
    "telemetry_cost": "bench.telemetry.cost",
    "growth_models": "bench.growth.models",
    "growth_watchers": "bench.growth.watchers",
    "growth_log": "bench.growth.log_size",
    "growth_uptime": "bench.growth.uptime",
}
"""By name, the module whose `measure(is_quick=…)` takes the figures."""
RESULTS: Final = REPOSITORY / "bench" / "results"


def main(argv: list[str]) -> int:
    """Run the benches that are named, or all. 1 when a goal was missed."""
    asked = _parse(argv)
    if asked.list:
        for name, module in BENCHES.items():
            print(f"{name:16} {(import_module(module).__doc__ or '').splitlines()[0]}")
        return 0
    has_missed = False
    for name in asked.names or BENCHES:
        facts = machine_facts()
        print(f"\n{name}, {machine_line(facts)}", flush=True)
        meter = BusyMeter()
        outcome = measure_of(name)(is_quick=asked.quick)
        busy = meter.read()
        has_missed |= any(figure.is_missed for figure in outcome.figures)
        print(f"  {busy.used:.2f} cores busy in the mean, {busy.stolen:.2f} stolen")
        print("".join(f"  {remark}\n" for remark in outcome.remarks) + table(outcome.figures), flush=True)
        report = {
            "bench": name,
            "is_quick": asked.quick,
            "machine": facts,
            "busy": asdict(busy),
            **asdict(outcome),
        }
        _write(report, asked.json or RESULTS / f"{name}{'.quick' if asked.quick else ''}.json")
    return int(has_missed)


def measure_of(name: str) -> Callable[..., Outcome]:
    """What takes the figures of that bench."""
    measure: Callable[..., Outcome] = import_module(BENCHES[name]).measure
    return measure


def _write(report: object, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, default=str), encoding="utf-8")
    print(f"  raw samples: {path}")


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description="Measures the whole program.")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHES)}; all when none is named"
    )
    parser.add_argument("--list", action="store_true", help="only name the benches")
    parser.add_argument("--quick", action="store_true", help="a tenth of the work")
    parser.add_argument(
        "--json", metavar="FILE", type=Path, help="in place of bench/results/NAME.json; of one bench"
    )
    asked = parser.parse_args(argv)
    for name in asked.names:
        if name not in BENCHES:
            parser.error(f"there is no bench {name!r}, only {', '.join(BENCHES)}")
    if asked.json and len(asked.names) != 1:
        parser.error("--json is for one bench")
    return asked


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
