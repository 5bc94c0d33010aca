"""What the telemetry costs: processor time of an idle sampler, memory of its children, pauses of the loop under faults.

The sampler runs alone in a process (`sampler_program.py`) over a recorded board, its NVIDIA library is the stub that
the tests compile. Processor time is read from the processes' own clocks, which count ended threads too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bench.figures import Figure, Goal, Outcome
from tests.engine.board_trees import answers, laid_out
from tests.engine.nvml_stub import build_nvml_stub

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.engine.nvml_stub import NvmlStub

FULL_S: Final = 60.0
QUICK_S: Final = 20.0
PERIOD_S: Final = 5.0
FAST_PERIOD_S: Final = 0.25
BOARDS: Final = ("cpu-only", "x86-one-gpu", "jetson-agx-orin-jp6")
CARD: Final = "x86-one-gpu"
FAULTS: Final = (
    *("hang-at-init", "hang-at-utilization", "gpu-lost-later-15", "no-gpus", "driver-mismatch-18"),
    *("unknown-999", "zeros", "no-permission-4"),
)
FAULT_S: Final = 4.0
SHARE: Final = Goal("<=", 0.15)
CHILD_MIB: Final = Goal("<=", 18)
PAUSE: Final = Goal("<=", 20)
END: Final = Goal("<=", 1)


def measure(*, is_quick: bool) -> Outcome:
    """Idle cost on three boards, then every fault in turn on one."""
    outcome = Outcome()
    for name in BOARDS:
        _idle(name, outcome, QUICK_S if is_quick else FULL_S)
    _faults(outcome)
    return outcome


def _idle(name: str, outcome: Outcome, span_s: float) -> None:
    with _sampler(name, PERIOD_S) as (process, pids, _):
        children = {pid: _name_of(pid) for pid in pids}
        before = {pid: _cpu_s(pid) for pid in (process.pid, *pids)}
        time.sleep(span_s)
        used = {pid: 100 * (_cpu_s(pid) - before[pid]) / span_s for pid in before}
        outcome.figures.append(
            Figure(f"{name}: sampling, {span_s:g} s idle", sum(used.values()), "% of a core", SHARE)
        )
        for pid, child in children.items():
            outcome.figures += (
                Figure(f"{name}: child {child}", used[pid], "% of a core"),
                Figure(f"{name}: child {child}, RSS", _mib(pid, "Rss:"), "MiB", CHILD_MIB),
                Figure(f"{name}: child {child}, PSS", _mib(pid, "Pss:"), "MiB"),
            )
        if name == "cpu-only":
            outcome.figures.append(Figure(f"{name}: children", len(pids), "", Goal("==", 0)))


def _faults(outcome: Outcome) -> None:
    """The pauses of the loop while the library sickens and heals, and the end in the middle of each fault."""
    pauses: list[float] = []
    cpu: list[float] = []
    well = answers(CARD) or ""
    crash = f"{well}\ngpu0.temperature = crash\n"
    texts = {"crash": crash, **{fault: answers(CARD, fault=fault) or "" for fault in FAULTS}}
    with _sampler(CARD, FAST_PERIOD_S) as (process, _, stub):
        for text in texts.values():
            for state in (text, well):
                stub.answer(state)
                time.sleep(FAULT_S)
                told = _ask(process)
                pauses.append(told["longest_wall_ms"])
                cpu.append(told["longest_cpu_ms"])
    outcome.figures += (
        Figure(f"longest pause of the loop, {len(texts)} faults", max(pauses), "ms", PAUSE),
        Figure("the same, by processor time", max(cpu), "ms"),
    )
    outcome.samples["longest pause ms"] = pauses
    ends: list[float] = []
    for text in texts.values():
        with _sampler(CARD, FAST_PERIOD_S) as (process, _, stub):
            stub.answer(text)
            time.sleep(2 * FAST_PERIOD_S)
            assert process.stdin and process.stdout
            process.stdin.close()
            ends.append(json.loads(process.stdout.readline())["end_s"])
    outcome.figures.append(Figure(f"longest end amid a fault, of {len(ends)}", max(ends), "s", END))
    outcome.samples["end s"] = ends


@contextmanager
def _sampler(name: str, period_s: float) -> Iterator[tuple[subprocess.Popen[str], list[int], NvmlStub]]:
    with (
        tempfile.TemporaryDirectory(prefix="arasul-bench-") as folder,
        laid_out(name, Path(folder, "root")) as root,
    ):
        stub = build_nvml_stub(Path(folder))
        library = answers(name)
        stub.answer(library or "init = !12\n")
        command = [sys.executable, "-m", "bench.telemetry.sampler_program", str(root), str(period_s)]
        with subprocess.Popen(
            command, env=stub.environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            try:
                assert process.stdout
                yield process, json.loads(process.stdout.readline())["pids"], stub
            finally:
                process.kill()


def _ask(process: subprocess.Popen[str]) -> Any:  # Any: JSON of our own program
    assert process.stdin and process.stdout
    process.stdin.write("\n")
    process.stdin.flush()
    return json.loads(process.stdout.readline())


def _cpu_s(pid: int) -> float:
    """Seconds of processor time of all its threads, ended ones included (clock_getcpuclockid(3))."""
    return time.clock_gettime((~pid << 3) | 2)


def _mib(pid: int, field: str) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise ValueError(f"no {field} of process {pid}")


def _name_of(pid: int) -> str:
    return os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[3])
