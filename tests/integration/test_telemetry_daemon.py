"""Guards CONTRACT §2 and §4 for the GPU by the whole daemon over a board: figures, health, limit, and end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pytest

from tests.engine.board_trees import answers, expected, laid_out
from tests.engine.nvml_stub import NvmlStub, build_nvml_stub
from tests.engine.processes import is_alive, pids_with, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.engine.daemon import Daemon, DaemonFactory
    from tests.engine.fake import FakeEngine

CARD: Final = "x86-one-gpu"
ORIN: Final = "jetson-agx-orin-jp6"
MIB: Final = 2**20
FLAT: Final = ("gpu_utilization", "gpu_memory", "gpu_temperature", "cpu_percent")
LIMIT: Final = "LLAMA_ARG_FIT_TARGET"
HALF: Final = {"OLLAMA_GPU_MEMORY_FRACTION": "0.5"}
CARD_LEFT_MIB: Final = round(
    (64_238_911_488 - 0.5 * 85_520_809_984) / MIB
)  # of the recording: free − ½ · total
CARD_HALF_MIB: Final = round(
    0.5 * 85_520_809_984 / MIB
)  # where it is not known what is free, all counts as free
ON_THE_GPU: Final = (  # else the fake engine says that it computes on the CPU, and the daemon warns of that
    'say,text=time=2026-11-29T00:00:00.000Z level=INFO source=types.go:1 msg="inference compute" id=0 library=CUDA'
)
STEP_MIB: Final = 65  # a change of less than 64 MiB is no reason to derive the environment anew
PROBE_S: Final = 2.0  # what the launch waits at most for a driver
LAUNCH_S: Final = 1.5  # far more than the rest of a launch takes


@dataclass(frozen=True, slots=True)
class Board:
    """A machine for daemons to run on: its tree, and its library as the test commands it."""

    name: str
    root: Path
    stub: NvmlStub

    @property
    def env(self) -> dict[str, str]:
        """What a daemon finds it by."""
        return {
            "ARASUL_GPU": "auto",
            "ARASUL_SYSROOT": str(self.root),
            "LD_LIBRARY_PATH": str(self.stub.folder),
            "NVML_STUB_FILE": str(self.stub.answers),
        }

    def answer(self, fault: str = "") -> None:
        """The library answers so from now on."""
        self.stub.answer(answers(self.name, fault=fault) or "")

    def pass_time(self) -> None:
        """The processors have worked a while: the second of the recorded samples."""
        (self.root / "proc/stat.later").replace(self.root / "proc/stat")


@pytest.fixture
def board(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Board]:
    """The machine that the test's parameter names, in its state when it names one; one card in an x86 machine else."""
    name, *states = getattr(request, "param", (CARD,))
    stub = build_nvml_stub(tmp_path / "library")
    stub.answer(answers(name, state=states[0] if states else "") or "")
    with laid_out(name, tmp_path / "root", *states) as root:
        yield Board(name, root, stub)


on_the_orin = pytest.mark.parametrize("board", [(ORIN,)], indirect=True, ids=["Orin"])


@pytest.mark.parametrize("board", [(ORIN, "busy")], indirect=True, ids=["a busy Orin"])
def test_the_figures_over_http_are_the_recorded_ones_and_make_a_history(
    daemon: DaemonFactory, board: Board, request: pytest.FixtureRequest
) -> None:
    _, *states = request.node.callspec.params["board"]
    wanted = expected(board.name, *states)["flat"]
    running = daemon(env=board.env)
    gpu = {**wanted, "cpu_percent": None}
    running.wait_for(
        lambda: flat(running) == gpu, what="the figures of the GPU, and none of one look at the CPU"
    )

    board.pass_time()
    running.wait_for(lambda: flat(running) == wanted, what=f"the figures {wanted}")

    samples = running.get("/api/stats/history?minutes=15").json()["samples"]
    assert {key: samples[-1][key] for key in FLAT} == wanted
    assert 2 <= len(samples) <= 4
    assert [sample["timestamp"] for sample in samples] == sorted(sample["timestamp"] for sample in samples)
    assert running.get("/api/stats").json()["process_memory_mb"] > 0


def flat(running: Daemon) -> dict[str, object]:
    stats = running.get("/api/stats").json()
    return {key: stats[key] for key in FLAT}


@pytest.mark.parametrize(
    ("fault", "http_status", "status", "check"),
    [
        ("", 200, "healthy", "ok"),
        ("driver-mismatch-18", 200, "degraded", "warn"),
        ("gpu-lost-15", 503, "unhealthy", "fail"),
    ],
)
def test_health_says_how_the_card_is(
    fault: str, http_status: int, status: str, check: str, daemon: DaemonFactory, board: Board
) -> None:
    board.answer(fault)
    running = daemon(ON_THE_GPU, env=board.env).wait_ready()

    running.wait_for(lambda: gpu_check(running) == check, what=f"the point gpu is {check}")

    answer = running.get("/health")
    assert (answer.status, answer.json()["status"]) == (http_status, status)
    if fault:
        assert "restart" in answer.json()["reason"] or "reboot" in answer.json()["reason"]


@on_the_orin
def test_an_idle_orin_whose_gpu_sleeps_is_healthy(daemon: DaemonFactory, board: Board) -> None:
    running = daemon(ON_THE_GPU, env=board.env).wait_ready()

    running.wait_for(lambda: states(running) == ["gated"], what="a GPU that sleeps")

    answer = running.get("/health")
    assert (answer.status, answer.json()["status"], gpu_check(running)) == (200, "healthy", "ok")


def states(running: Daemon) -> list[str]:
    """How each GPU is."""
    return [gpu["state"] for gpu in running.get("/api/stats").json()["gpus"]]


def gpu_check(running: Daemon) -> str:
    return str(running.get("/health").json()["checks"]["gpu"]["status"])


# the engine's limit


@on_the_orin
def test_an_orins_engine_has_its_limit_by_the_hosts_memory_though_the_library_hangs(
    daemon: DaemonFactory, fake_engine: FakeEngine, board: Board
) -> None:
    board.stub.answer("init = hang\n")
    took_s = time_of_spawn(lambda: daemon(env={**board.env, **HALF}), fake_engine)

    memory = expected(ORIN)["host"]["memory"]
    left_mib = round((memory["available_bytes"] - 0.5 * memory["total_bytes"]) / MIB)
    assert limit_of(fake_engine) == pytest.approx(left_mib, abs=STEP_MIB)
    assert took_s < LAUNCH_S  # no child was asked


def test_a_driver_that_hangs_costs_two_seconds_and_the_limit_until_the_next_start(
    daemon: DaemonFactory, fake_engine: FakeEngine, board: Board
) -> None:
    board.answer("hang-at-init")
    started: list[Daemon] = []
    took_s = time_of_spawn(lambda: started.append(daemon(env={**board.env, **HALF})), fake_engine)
    running = started[0]
    assert limit_of(fake_engine) is None
    assert PROBE_S <= took_s < PROBE_S + LAUNCH_S
    running.wait_ready().wait_for(
        lambda: "gpu_memory_unknown" in running.log_text(), what="a line that says so"
    )

    board.answer()
    os.kill(child_pid(running), signal.SIGKILL)  # as the driver lets go of who called it
    running.wait_for((running.state_dir / "gpu-memory.json").exists, what="a note of the card's memory")
    assert running.post("/api/process/restart").status == 200

    left_mib = limit_of(fake_engine)
    assert left_mib is not None
    assert CARD_LEFT_MIB - STEP_MIB <= left_mib <= CARD_HALF_MIB


def test_a_second_launch_on_the_same_card_does_not_ask_the_driver(
    daemon: DaemonFactory, fake_engine: FakeEngine, board: Board
) -> None:
    running = daemon(env={**board.env, **HALF}).wait_ready()
    assert running.stop() == 0
    board.answer("hang-at-init")
    (fake_engine.folder / "dump").unlink()

    took_s = time_of_spawn(running.start, fake_engine)

    assert limit_of(fake_engine) == pytest.approx(CARD_HALF_MIB, abs=STEP_MIB)
    assert took_s < LAUNCH_S
    running.wait_ready()
    assert "gpu_memory_unknown" not in running.log_text()


def time_of_spawn(start: Callable[[], object], fake_engine: FakeEngine) -> float:
    """Seconds from the start of the daemon until its engine runs and has noted its environment."""
    began = time.monotonic()
    start()
    wait_until(lambda: is_noted(fake_engine), limit_s=10, what="the engine's environment")
    return time.monotonic() - began


def is_noted(fake_engine: FakeEngine) -> bool:
    try:
        return bool(fake_engine.dump())
    except (OSError, ValueError):
        return False


def limit_of(fake_engine: FakeEngine) -> int | None:
    """MiB that the engine was told to leave free."""
    told: str | None = fake_engine.dump()["environ"].get(LIMIT)
    return None if told is None else int(told)


# the end


@pytest.mark.parametrize("fault", ["hang-at-init", "hang-at-utilization"])
def test_the_daemon_ends_at_once_while_the_driver_hangs(
    fault: str, daemon: DaemonFactory, board: Board
) -> None:
    board.answer(fault)
    running = daemon(env=board.env).wait_ready()
    child = child_pid(running)

    running.signal(signal.SIGTERM)

    assert running.wait_exit(limit_s=2.0) == 0
    assert running.survivors(limit_s=0.5) == {}
    assert not is_alive(child)


@pytest.mark.parametrize("fault", ["", "hang-at-init"], ids=["healthy", "hang-at-init"])
def test_no_gpu_child_outlives_a_daemon_that_is_killed(
    fault: str, daemon: DaemonFactory, board: Board
) -> None:
    board.answer(fault)
    running = daemon(env=board.env).wait_ready()
    child = child_pid(running)

    running.signal(signal.SIGKILL)
    running.wait_exit()

    wait_until(lambda: not is_alive(child), limit_s=2, what="the end of the GPU child")
    assert running.survivors() == {}


def test_a_daemon_whose_driver_hangs_answers_and_has_one_gpu_child(
    daemon: DaemonFactory, board: Board
) -> None:
    board.answer("hang-at-init")
    running = daemon(env=board.env).wait_ready()
    child = child_pid(running)

    slowest_s = max(
        running.get(path).took_s for path in ("/health", "/api/stats", "/livez") for _ in range(20)
    )

    assert slowest_s < 1.0
    assert [pid for pid, command in pids_with(running.marker).items() if "child_program" in command] == [
        child
    ]


def child_pid(running: Daemon) -> int:
    """The process that asks the driver now."""
    found: list[int] = []

    def look() -> bool:
        sources = running.get("/api/stats").json()["gpu_sources"]
        found[:] = [one["child_pid"] for one in sources if one["source"] == "nvml" and one["child_pid"]]
        return bool(found)

    running.wait_for(look, what="a child that asks the driver")
    return found[0]


# the command line


def test_the_command_line_sees_the_card(daemon: DaemonFactory, board: Board) -> None:
    running = daemon(env=board.env).wait_ready()
    running.wait_for(lambda: states(running) == ["ok"], what="the card answers")

    stats = json.loads(command(running, "stats", "--json").stdout)
    table = command(running, "stats").stdout
    doctor = json.loads(command(running, "doctor", "--json").stdout)

    assert (stats["gpu_memory"], stats["gpus"][0]["name"]) == (19_817, "NVIDIA H100 80GB HBM3")
    assert "NVIDIA H100" in table
    assert {one["status"] for one in doctor["findings"] if one["subject"] in ("driver", "nvml")} == {"ok"}


def command(running: Daemon, *arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "arasul_supervisor", *arguments, "--url", running.url]
    return subprocess.run(
        line,
        env=running.environment,
        cwd=running.folder,
        capture_output=True,
        text=True,
        timeout=15,
        check=False,
    )
