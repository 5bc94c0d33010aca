"""The kernel's out-of-memory killer at work in a control group that holds the daemon and its engine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.engine.processes import wait_until
from tests.engine.store import install_model
from tests.engine.tiny_gguf import SLOWEST
from tests.system.ground.base import leave_out, need

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.engine.daemon import Daemon, DaemonFactory
    from tests.engine.store import ModelFiles

    Limited = Callable[..., Daemon]

MEMORY = Path("/sys/fs/cgroup/memory")
LIMIT_BYTES = 300 << 20


@pytest.fixture
def group(tmp_path: Path) -> Iterator[Path]:
    """A control group of the memory controller (v1, for that is what this kernel offers to tests) with a limit."""
    need("what the out-of-memory killer does")
    if not (MEMORY / "memory.limit_in_bytes").exists():
        leave_out("out-of-memory kills: there is no memory controller of cgroup v1 here")
    made = MEMORY / f"arasul-test-{os.getpid()}"
    made.mkdir()
    (made / "memory.limit_in_bytes").write_text(str(LIMIT_BYTES))
    yield made
    wait_until(lambda: not (made / "cgroup.procs").read_text(), limit_s=10, what="the group is empty")
    made.rmdir()


def inside(group: Path) -> tuple[str, ...]:
    """The command that puts what it executes into the group."""
    return ("sh", "-c", f'echo $$ > {group}/cgroup.procs; exec "$@"', "sh")


@pytest.fixture
def limited(group: Path, daemon: DaemonFactory) -> Limited:
    """`limited("modes")`: a ready daemon in the group. The group is made before the daemon, and removed after it."""

    def start(*modes: str, **more: Any) -> Daemon:  # Any: what the factory takes
        return daemon(*modes, under=inside(group), **more).wait_ready(limit_s=60)

    return start


def errors_of(daemon: Daemon) -> str:
    """What `/health` says of errors."""
    detail: str = daemon.get("/health").json()["checks"]["errors"]["detail"]
    return detail


def wait_for_kill(daemon: Daemon, event: str) -> None:
    """Wait until the daemon has logged that; it is asked nothing meanwhile.

    Each request costs the daemon some memory of the kernel. Asked for it 2 ms after a kill, while the victim still
    gives its own back, Linux 6.18 takes a second victim, which is the daemon (1 of 100, seen in the kernel's log).
    """
    wait_until(lambda: f'"{event}"' in daemon.log_text(), limit_s=15, what=event)


def wait_for_loss(daemon: Daemon) -> str:
    """Wait until `/health` tells of a runner lost for want of memory; its sentence."""
    wait_for_kill(daemon, "runner_oom_killed")
    wait_until(lambda: "out-of-memory" in errors_of(daemon), limit_s=15, what="the loss in /health")
    return errors_of(daemon)


def test_an_engine_killed_for_want_of_memory_is_reported_as_that(limited: Limited) -> None:
    started = limited("eat,mb=600,after_s=1|")
    wait_for_kill(started, "engine_exited")
    started.wait_for(lambda: started.process()["restarts"] == 1, what="the restart")
    last = started.process()["last_exit"]
    assert (last["signal"], last["oom_killed"]) == (signal.SIGKILL, True)
    assert last["reason"] == "killed by signal 9 (SIGKILL): by the kernel's out-of-memory killer"


def test_the_kernel_takes_the_engine_and_not_the_daemon(limited: Limited) -> None:
    started = limited("eat,mb=600,after_s=1|")
    wait_for_kill(started, "engine_exited")
    started.wait_for(lambda: started.process()["restarts"] == 1, what="the restart")
    assert started.popen.poll() is None


def test_a_plain_sigkill_in_a_limited_group_is_no_lack_of_memory(limited: Limited) -> None:
    started = limited()
    os.kill(started.process()["pid"], signal.SIGKILL)
    started.wait_for(lambda: started.process()["restarts"] == 1, what="the restart")
    assert started.process()["last_exit"]["oom_killed"] is False


def test_a_child_of_the_engine_killed_for_want_of_memory_is_named(limited: Limited) -> None:
    started = limited("eat,mb=600,who=child,after_s=1")
    assert "ended the model's runner (python" in wait_for_loss(started)
    assert started.process()["oom_kills"] == 1


def test_the_engine_goes_on_when_its_child_was_killed_for_want_of_memory(limited: Limited) -> None:
    started = limited("eat,mb=600,who=child,after_s=1")
    wait_for_loss(started)
    assert (started.process()["state"], started.process()["restarts"]) == ("running", 0)


def test_a_real_runner_that_outgrows_the_memory_while_it_loads_is_reported(
    limited: Limited, engine_binary: Path, tmp_path: Path, model_files: ModelFiles
) -> None:
    install_model(tmp_path / "store", "large", model_files(SLOWEST))  # 506 MB
    started = limited(engine=engine_binary, models=tmp_path / "store")
    ask = {"model": "large", "prompt": "a", "stream": False, "options": {"use_mmap": False}}
    assert started.engine("POST", "/api/generate", ask).status == 500
    assert "out-of-memory killer ended" in wait_for_loss(started)


def test_a_kill_outside_the_group_is_not_taken_for_ours(limited: Limited, group: Path) -> None:
    started = limited()
    other = group.with_name(f"{group.name}-other")
    other.mkdir()
    try:
        (other / "memory.limit_in_bytes").write_text(str(64 << 20))
        eater = subprocess.run([*inside(other), sys.executable, "-c", "bytearray(300 << 20)"], check=False)
        assert eater.returncode == -signal.SIGKILL
        os.kill(started.process()["pid"], signal.SIGKILL)
        started.wait_for(lambda: started.process()["restarts"] == 1, what="the restart")
        assert started.process()["last_exit"]["oom_killed"] is False
    finally:
        other.rmdir()


def test_what_was_killed_before_a_generation_is_not_blamed_on_it(limited: Limited, group: Path) -> None:
    started = limited()
    started.post("/api/process/stop")
    eater = subprocess.run([*inside(group), sys.executable, "-c", "bytearray(900 << 20)"], check=False)
    assert eater.returncode == -signal.SIGKILL
    started.post("/api/process/start")
    os.kill(started.process()["pid"], signal.SIGKILL)
    started.wait_for(lambda: started.process()["restarts"] == 1, what="the restart")
    assert (started.process()["last_exit"]["oom_killed"], started.process()["oom_kills"]) == (False, 0)
