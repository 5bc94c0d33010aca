"""Guards that runners are known by their model, and that PSS is read rarely, cheaply, and never waited for."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arasul_supervisor.telemetry import mapped_figures
from arasul_supervisor.telemetry.mapped_figures import (
    MappedFigures,
    PssRound,
    RunnerModel,
    is_pss_due,
    read_pss,
    runner_model,
)
from arasul_supervisor.telemetry.process_files import PROC

if TYPE_CHECKING:
    from pathlib import Path

HEX = "0a" * 32
BLOB = f"sha256:{HEX}"
PATH = f"/root/.ollama/models/blobs/sha256-{HEX}"
SERVE, RUNNER = (100, 5000), (101, 6000)


def write(proc: Path, pid: int, *argv: str, pss_kb: int = 10) -> None:
    folder = proc / str(pid)
    folder.mkdir(exist_ok=True)
    (folder / "cmdline").write_bytes(b"".join(word.encode() + b"\0" for word in argv))
    (folder / "smaps_rollup").write_text(f"Rss:  99 kB\nPss:  {pss_kb} kB\n")


@pytest.mark.parametrize(
    ("argv", "model"),
    [
        (("/usr/lib/ollama/llama-server", "--model", PATH, "--port", "4"), RunnerModel(BLOB)),
        (("/usr/bin/ollama", "runner", "--ollama-engine", "--model", PATH), RunnerModel(BLOB)),
        (("llama-server", f"--model={PATH}"), RunnerModel(BLOB)),
        (
            ("llama-server", "--model", "/m/blobs/.ollama-split-0a-1/model-00001-of-00002.gguf"),
            RunnerModel(None),
        ),
        (("llama-server", "--model", PATH + "-partial"), RunnerModel(None)),
        (("llama-server", "--port", "4", "--offline"), None),
        (("ollama", "serve"), None),
        (("ollama", "runner", "--model"), None),
        ((), None),
    ],
    ids=[
        "since 0.30",
        "before 0.30",
        "with an equals sign",
        "a split model",
        "no whole blob",
        "a discovery of devices",
        "the server",
        "cut short",
        "a zombie",
    ],
)
def test_a_runner_is_known_by_its_model(argv: tuple[str, ...], model: RunnerModel | None) -> None:
    assert runner_model(argv) == model


@given(st.lists(st.text() | st.just("--model")))
def test_any_arguments_make_a_runner_or_none(argv: list[str]) -> None:
    model = runner_model(argv)

    assert model is None or "--model" in " ".join(argv)


@pytest.mark.parametrize(
    ("cost_s", "now_mono", "processes", "is_due"),
    [
        (0.001, 59.9, (SERVE,), False),
        (0.001, 60.0, (SERVE,), True),
        (0.001, 5.0, (SERVE, RUNNER), True),
        (0.001, 0.9, (SERVE, RUNNER), False),  # 1000 × 1 ms is 1 s
        (0.120, 60.0, (SERVE,), False),
        (0.120, 119.9, (SERVE, RUNNER), False),
        (0.120, 120.0, (SERVE,), True),
    ],
    ids=[
        "too soon",
        "after a minute",
        "at once for a new process",
        "a new process, but what it cost",
        "a big model waits longer",
        "for new processes too",
        "a thousand times its cost later",
    ],
)
def test_the_share_of_memory_is_read_no_oftener_than_its_cost_allows(
    cost_s: float, now_mono: float, processes: tuple[tuple[int, int], ...], is_due: bool
) -> None:
    last = PssRound(taken_mono=0.0, cost_s=cost_s, pss_bytes={SERVE: 1})

    assert is_pss_due(last, processes, now_mono=now_mono) is is_due


def test_the_first_round_comes_with_the_first_process() -> None:
    assert not is_pss_due(None, (), now_mono=0.0)
    assert is_pss_due(None, (SERVE,), now_mono=0.0)


def test_a_round_is_stale_after_three_of_its_own_periods() -> None:
    quick, slow = PssRound(0.0, 0.001, {}), PssRound(0.0, 0.1, {})

    assert (quick.is_stale(180.0), quick.is_stale(180.1)) == (False, True)
    assert (slow.is_stale(300.0), slow.is_stale(300.1)) == (False, True)


def test_a_round_measures_the_processor_time_that_it_took() -> None:
    own = (os.getpid(), 1)

    found = read_pss((own, (2**22 + 1, 1)), PROC, taken_mono=7.0)

    assert (found.pss_bytes[own] or 0) > 2**20
    assert found.pss_bytes[2**22 + 1, 1] is None
    assert 0 < found.cost_s < 1


async def test_each_process_is_read_twice_and_then_never_again(tmp_path: Path) -> None:
    figures = MappedFigures(tmp_path)
    write(tmp_path, 100, "ollama", "serve")
    write(tmp_path, 101, "ollama", "serve")  # forked a moment ago: still the arguments of its parent

    await figures.look((SERVE, RUNNER), now_mono=0.0, timeout_s=5.0)
    after_fork = figures.known.models
    write(tmp_path, 101, "llama-server", "--model", PATH)
    await figures.look((SERVE, RUNNER), now_mono=5.0, timeout_s=5.0)
    after_exec = figures.known.models
    write(tmp_path, 101, "renamed itself")
    await figures.look((SERVE, RUNNER), now_mono=10.0, timeout_s=5.0)

    assert (after_fork, after_exec) == ({}, {RUNNER: RunnerModel(BLOB)})
    assert figures.known.models == after_exec


async def test_a_pid_that_is_used_again_is_another_process(tmp_path: Path) -> None:
    figures = MappedFigures(tmp_path)
    write(tmp_path, 101, "llama-server", "--model", PATH)
    await figures.look((RUNNER,), now_mono=0.0, timeout_s=5.0)

    write(tmp_path, 101, "sh")
    await figures.look(((101, 9999),), now_mono=5.0, timeout_s=5.0)

    assert figures.known.models == {}


async def test_a_process_that_blocks_its_reader_hides_only_what_is_read_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_go_on = threading.Event()
    looks: list[int] = []

    def stuck(pid: int, proc: Path) -> int:
        looks.append(pid)
        may_go_on.wait(10)
        return 4096

    monkeypatch.setattr(mapped_figures, "read_pss_bytes", stuck)
    figures = MappedFigures(tmp_path)
    write(tmp_path, 100, "ollama", "serve")

    await figures.look((SERVE,), now_mono=0.0, timeout_s=0.02)
    await figures.look((SERVE,), now_mono=5.0, timeout_s=0.02)
    while_stuck = figures.known.pss
    may_go_on.set()
    await figures.settle(timeout_s=5.0)
    await figures.look((SERVE,), now_mono=10.0, timeout_s=5.0)

    assert while_stuck is None
    assert figures.known.pss == PssRound(
        0.0, figures.known.pss.cost_s if figures.known.pss else 0, {SERVE: 4096}
    )
    assert looks == [100]
