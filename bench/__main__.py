"""`python -m bench [NAME…] [--quick] [--json FILE]`: measures, prints one table, keeps the raw samples."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from bench import log_delay, log_flood, telemetry_cost
from bench.figures import table
from bench.machine import BusyMeter, machine_facts

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.figures import Outcome

BENCHES: Final[dict[str, Callable[..., Outcome]]] = {
    "log_flood": log_flood.measure,
    "log_delay": log_delay.measure,
    "telemetry_cost": telemetry_cost.measure,
}


def main(argv: list[str]) -> int:
    """Run the benches that are named, or all. 1 when a goal was missed."""
    asked = _parse(argv)
    if asked.list:
        for name, bench in BENCHES.items():
            print(f"{name:14} {(sys.modules[bench.__module__].__doc__ or '').splitlines()[0]}")
        return 0
    report: dict[str, object] = {"machine": machine_facts(), "is_quick": asked.quick}
    _print_machine(report["machine"])
    benches: dict[str, object] = {}
    has_missed = False
    for name in asked.names or BENCHES:
        meter = BusyMeter()
        outcome = BENCHES[name](is_quick=asked.quick)
        busy = meter.read()
        has_missed |= any(figure.is_missed for figure in outcome.figures)
        print(f"\n{name}: {busy.used:.2f} cores busy in the mean, {busy.stolen:.2f} stolen")
        print("".join(f"  {remark}\n" for remark in outcome.remarks) + table(outcome.figures), flush=True)
        benches[name] = {**asdict(outcome), "busy": asdict(busy)}
    if asked.json:
        with open(asked.json, "w", encoding="utf-8") as file:
            json.dump({**report, "benches": benches}, file, default=str)
    return int(has_missed)


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description="Measures the whole program.")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHES)}; all when none is named"
    )
    parser.add_argument("--list", action="store_true", help="only name the benches")
    parser.add_argument("--quick", action="store_true", help="a tenth of the work")
    parser.add_argument("--json", metavar="FILE", help="write figures, raw samples and the machine there")
    asked = parser.parse_args(argv)
    for name in asked.names:
        if name not in BENCHES:
            parser.error(f"there is no bench {name!r}, only {', '.join(BENCHES)}")
    return asked


def _print_machine(facts: object) -> None:
    assert isinstance(facts, dict)
    print(
        f"{facts['at']}, commit {facts['commit']}: {facts['cores']} cores of {facts['processor']}, "
        f"{facts['architecture']}, Linux {facts['kernel']}, Python {facts['python']}, "
        f"load {facts['load_1min']:.2f} before"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
