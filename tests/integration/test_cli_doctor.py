"""Guards `doctor` (contract §5): a line for each check, exit 1 when one failed, in bounded time, without a daemon."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from arasul_supervisor.cli import doctor, main
from arasul_supervisor.ollama.environment import MARKER_VARIABLE
from arasul_supervisor.telemetry.visibility import nodes as nodes_module
from arasul_supervisor.telemetry.visibility.facts import read_driver
from tests.engine.board_trees import answers
from tests.engine.nvml_stub import build_nvml_stub
from tests.engine.visibility_ground import engine, well_orin, well_pc, write
from tests.integration.cli_daemon import daemon as daemon

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tests.integration.cli_daemon import DaemonDouble

NOBODY_THERE = "http://127.0.0.1:1"
HANGING = "import json, sys, time\nprint(json.dumps({'path': sys.argv[4]}), flush=True)\ntime.sleep(60)\n"
HEAVY = {"aiohttp", "asyncinotify", "msgspec", "psutil", "pynvml", "rich", "structlog"}
RUN_AND_TELL = """
import sys
from arasul_supervisor.cli import main
main(["doctor"])
print("loaded:", *sys.modules)
"""


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """Plays a box: its tree, an engine with these libraries, and no daemon."""
    for name in ("LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "JETSON_JETPACK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ARASUL_URL", NOBODY_THERE)  # the fixture `daemon`, asked for after this one, is found

    def play(make: Callable[[Path], Path], *backends: str) -> Path:
        root = make(tmp_path / "root")
        monkeypatch.setenv("ARASUL_SYSROOT", str(root))
        monkeypatch.setenv("ARASUL_OLLAMA", str(engine(tmp_path / "engine", *backends)))
        return root

    yield play


def bare(root: Path) -> Path:
    write(root, "proc/sys/kernel/osrelease", "6.8.0-79-generic\n")
    return root


def report(capsys: pytest.CaptureFixture[str]) -> Any:  # Any: JSON
    return json.loads(capsys.readouterr().out)


def statuses(told: Any) -> dict[str, set[str]]:  # Any: JSON
    found: dict[str, set[str]] = {}
    for one in told["findings"]:
        found.setdefault(one["subject"], set()).add(one["status"])
    return found


def test_a_box_without_a_gpu_passes_at_once(
    box: Callable[..., Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    box(bare)
    began = time.monotonic()

    code = main(["doctor"])

    out = capsys.readouterr().out
    assert (code, time.monotonic() - began < 2.0) == (0, True)
    assert "skip  driver" in out and "0 fail, 0 warn" in out
    # a path is never broken, however long the test's own is
    assert max(map(len, out.replace(str(tmp_path), "/home/user").splitlines())) <= 100


def test_this_very_machine_is_looked_at_without_harm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if read_driver(Path("/"), {}).has_gpu:
        pytest.skip("NOT TESTED: the verdict on a box without a GPU, for this one has a GPU")
    monkeypatch.delenv("ARASUL_SYSROOT", raising=False)
    monkeypatch.setenv("ARASUL_URL", NOBODY_THERE)
    monkeypatch.setenv("ARASUL_OLLAMA", str(engine(tmp_path)))

    assert main(["doctor"]) == 0


def test_a_pc_where_all_is_well_passes_every_check(
    box: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    box(well_pc, "cuda_v12", "cuda_v13")
    stub = build_nvml_stub(tmp_path)
    stub.answer(answers("x86-one-gpu") or "")
    for name in ("LD_LIBRARY_PATH", "NVML_STUB_FILE"):
        monkeypatch.setenv(name, stub.environ[name])

    code = main(["doctor", "--json"])

    told = report(capsys)
    assert (code, told["status"]) == (0, "ok")
    assert {subject for subject, words in statuses(told).items() if words == {"ok"}} >= {
        "driver", "library", "nodes", "nvml", "kernel log", "engine", "environment", "settings",
    }  # fmt: skip


def test_a_spoiled_orin_fails_with_an_advice_for_each_fault(
    box: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = box(well_orin, "cuda_v12")
    (root / "dev/nvmap").unlink()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    monkeypatch.setenv("LLAMA_ARG_FIT_TARGET", "2 GiB")
    monkeypatch.setenv("LLM_GPU_LAYERS", "0")

    code = main(["doctor", "--json"])

    told = report(capsys)
    failed = {subject for subject, words in statuses(told).items() if "fail" in words}
    assert (code, told["status"]) == (1, "fail")
    assert failed == {"nodes", "jetpack", "environment", "settings"}
    assert all(one["advice"] for one in told["findings"] if one["status"] in ("warn", "fail"))


def test_advice_stands_below_its_line(
    box: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    box(well_orin, "cuda_jetpack6")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")

    assert main(["doctor"]) == 1

    lines = capsys.readouterr().out.splitlines()
    at = next(at for at, line in enumerate(lines) if line.startswith("fail  environment"))
    assert "CUDA_VISIBLE_DEVICES is empty" in lines[at]
    assert any(line.lstrip().startswith("-> Unset it") for line in lines[at + 1 : at + 3])


def test_wrong_settings_are_a_finding_and_stop_nothing(
    box: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    box(bare)
    monkeypatch.setenv("ARASUL_PORT", "many")

    assert main(["doctor", "--json"]) == 1

    told = report(capsys)
    assert statuses(told)["settings"] == {"fail"}
    assert len(told["findings"]) > 8


def test_what_is_wrong_in_this_shell_is_told_though_a_daemon_answers(
    box: Callable[..., Path],
    daemon: DaemonDouble,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    box(bare)
    daemon_says(daemon, settings={"ARASUL_GPU": {"value": "auto"}})
    monkeypatch.setenv("ARASUL_SYSROOT", "/nonexistent")
    monkeypatch.setenv("ARASUL_GPU", "cuda")

    assert main(["doctor", "--json"]) == 1

    told = [one for one in report(capsys)["findings"] if one["subject"] == "settings"]
    wrong = [one["seen"] for one in told if one["status"] == "fail"]
    assert [one["status"] for one in told] == ["fail", "fail", "ok"]
    assert "ARASUL_GPU is 'cuda': allowed is one of auto" in wrong[0]
    assert "ARASUL_SYSROOT is '/nonexistent'" in wrong[1] and "allowed is the absolute path" in wrong[1]
    assert "lies below /." in told[0]["advice"]


def test_a_wrong_setting_does_not_move_the_look_to_another_root(
    box: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    box(well_orin, "cuda_jetpack6")
    monkeypatch.setenv("ARASUL_PORT", "many")

    assert main(["doctor", "--json"]) == 1

    found = statuses(report(capsys))
    assert (found["driver"], found["engine"], found["settings"]) == ({"ok"}, {"ok"}, {"fail"})


def test_a_jtop_that_was_asked_for_and_is_not_there_is_told(
    box: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    box(well_orin, "cuda_jetpack6")
    monkeypatch.setenv("ARASUL_JTOP", "1")

    assert main(["doctor", "--json"]) == 0

    told = [one for one in report(capsys)["findings"] if one["subject"] == "jtop"]
    assert [(one["status"], "there is no /run/jtop.sock" in one["seen"]) for one in told] == [("warn", True)]


@pytest.mark.parametrize(
    ("sources", "told"),
    [
        ([{"source": "jtop", "state": "none", "detail": "jtop gives nothing."}], ["jtop gives nothing."]),
        ([{"source": "jtop", "state": "ok", "detail": ""}], []),
        ([{"source": "jtop", "state": None, "detail": "Not looked at yet."}], []),
        ([{"source": "nvml", "state": "none", "detail": "There is no driver."}], []),
    ],
    ids=["it gives nothing", "it is well", "it is not known yet", "it was not asked for"],
)
def test_the_daemons_jtop_is_told_where_it_gives_nothing(
    sources: list[dict[str, object]],
    told: list[str],
    box: Callable[..., Path],
    daemon: DaemonDouble,
    capsys: pytest.CaptureFixture[str],
) -> None:
    box(bare)
    daemon_says(daemon, settings={"ARASUL_GPU": {"value": "auto"}}, sources=sources)

    assert main(["doctor", "--json"]) == 0

    assert [one["seen"] for one in report(capsys)["findings"] if one["subject"] == "jtop"] == told


def test_a_name_that_a_terminal_would_obey_is_written_out(
    box: Callable[..., Path],
    daemon: DaemonDouble,
    capsys: pytest.CaptureFixture[str],
) -> None:
    box(bare)
    daemon_says(daemon, detail="GPU 0 (\x1b[31mEvil\x07\u202e) answers.")

    main(["doctor"])

    shown = capsys.readouterr().out
    assert "\\x1b[31mEvil\\x07\\u202e" in shown
    assert [letter for letter in shown if not letter.isprintable() and letter != "\n"] == []


def test_a_node_that_hangs_does_not_hang_the_doctor(
    box: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    box(well_orin, "cuda_jetpack6")
    monkeypatch.setattr(nodes_module, "_PROGRAM", write(tmp_path, "hanging.py", HANGING))
    monkeypatch.setattr(doctor, "OPEN_TIMEOUT_S", 0.5)
    began = time.monotonic()

    assert main(["doctor", "--json"]) == 1

    hung = [one for one in report(capsys)["findings"] if "hangs in the driver" in one["seen"]]
    assert time.monotonic() - began < 5
    assert [one["subject"] for one in hung] == ["nodes"]


def test_the_engines_own_environment_counts_while_the_daemon_answers(
    box: Callable[..., Path],
    daemon: DaemonDouble,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    box(well_orin, "cuda_jetpack6")
    monkeypatch.setenv("LLM_GPU_LAYERS", "0")  # of this shell: the daemon was told otherwise
    settings = {"ARASUL_GPU": {"value": "auto"}, "LLM_GPU_LAYERS": {"value": None}}
    with engine_process({MARKER_VARIABLE: "here:1", "CUDA_VISIBLE_DEVICES": "-1"}) as pid:
        daemon.says("GET", "/api/process", {"pid": pid, "command": ["ollama", "serve"]})
        daemon.says(
            "GET", "/health", {"checks": {"gpu": {"status": "warn", "detail": "GPU 0 is slow."}}}, status=503
        )
        daemon.says("GET", "/api/stats", {"host": {"memory": {"total_bytes": 64, "cgroup_limit_bytes": 8}}})
        daemon.says("GET", "/api/info", {"ollama_version": "0.34.4", "settings": settings})

        assert main(["doctor", "--json"]) == 1

    told = report(capsys)
    found = statuses(told)
    assert f"process {pid}" in told["looked_at"]
    assert (found["environment"], found["settings"], found["daemon"]) == ({"fail"}, {"ok"}, {"warn"})
    assert found["memory"] == {"warn"}


def test_a_pid_that_is_not_the_engine_here_is_not_believed(
    box: Callable[..., Path],
    daemon: DaemonDouble,
    capsys: pytest.CaptureFixture[str],
) -> None:
    box(bare)
    for path in ("/health", "/api/stats", "/api/info"):
        daemon.says("GET", path, {})
    with engine_process({"CUDA_VISIBLE_DEVICES": "-1"}) as pid:
        daemon.says("GET", "/api/process", {"pid": pid, "command": ["/usr/bin/ollama", "serve"]})

        assert main(["doctor", "--json"]) == 0

    assert "is not the engine here" in report(capsys)["looked_at"]


def test_the_doctor_loads_nothing_but_the_standard_library(box: Callable[..., Path]) -> None:
    box(bare)

    done = subprocess.run(
        [sys.executable, "-c", RUN_AND_TELL], capture_output=True, text=True, timeout=20, check=True
    )

    assert set(done.stdout.splitlines()[-1].split()) & HEAVY == set()


def daemon_says(
    daemon: DaemonDouble,
    *,
    settings: Mapping[str, object] | None = None,
    sources: Sequence[Mapping[str, object]] = (),
    detail: str = "GPU 0 answers.",
) -> None:
    """A daemon whose engine does not run."""
    daemon.says("GET", "/api/process", {"pid": None})
    daemon.says("GET", "/health", {"checks": {"gpu": {"status": "ok", "detail": detail}}})
    daemon.says("GET", "/api/stats", {"gpu_sources": sources})
    daemon.says("GET", "/api/info", {"settings": settings or {}})


@contextmanager
def engine_process(environ: Mapping[str, str]) -> Iterator[int]:
    """A real process with this environment, which stands for the engine's; gives its pid."""
    process = subprocess.Popen(["/bin/sleep", "60"], env={"PATH": os.defpath, **environ})
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait(10)
