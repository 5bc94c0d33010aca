"""The daemon below the real supervisord, by the config file that we ship: bare host, and container with it as PID 1."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING

from tests.engine.processes import is_alive, wait_until
from tests.system.ground.namespace import children_of, pid_inside, zombies_below
from tests.system.ground.supervisord import CONFIG, PROGRAMS, OneTree
from tests.system.ground.supervisord import supervisord as supervisord

if TYPE_CHECKING:
    from pathlib import Path

    from tests.system.ground.supervisord import Supervisord, SupervisordFactory

HELPERS = "escape,count=2,deaf=1;helpers,count=2"


def test_it_runs_and_a_stop_ends_the_real_engine_in_time(
    supervisord: SupervisordFactory, engine_binary: Path
) -> None:
    home = supervisord(engine=engine_binary)
    home.wait_ready()
    home.wait_state("RUNNING")
    begun = time.monotonic()
    assert home.ctl("stop", "arasul-supervisor").strip() == "arasul-supervisor: stopped"
    assert time.monotonic() - begun < 9
    assert home.state() == "STOPPED"
    assert home.carriers() == []


def test_the_default_times_suffice_for_an_engine_that_does_not_obey(supervisord: SupervisordFactory) -> None:
    home = supervisord(f"ignore_term;{HELPERS}")
    home.wait_ready()
    home.ctl("stop", "arasul-supervisor")
    assert home.carriers() == []
    assert "stopped: arasul-supervisor (exit status 0)" in home.daemon.log_text()


def test_supervisorctl_restart_ends_the_old_tree_before_the_new_one(supervisord: SupervisordFactory) -> None:
    home = supervisord(HELPERS)
    home.wait_ready()
    former = home.daemon_pid
    with OneTree(home.daemon.marker) as trees:
        home.ctl("restart", "arasul-supervisor")
        home.wait_ready()
    assert home.daemon_pid != former
    assert trees.most == 1


def test_a_killed_daemon_is_started_again_and_no_two_trees_overlap(supervisord: SupervisordFactory) -> None:
    home = supervisord(HELPERS)
    home.wait_ready()
    home.wait_state("RUNNING")
    with OneTree(home.daemon.marker) as trees:
        for n_starts in (2, 3):
            os.kill(home.daemon_pid, signal.SIGKILL)
            wait_until(lambda n=n_starts: home.n_starts() == n, limit_s=15, what="the next start")
            home.wait_ready()
    assert trees.most == 1


def test_bad_settings_end_in_fatal_after_the_retries(supervisord: SupervisordFactory) -> None:
    home = supervisord(env={"LLM_CONTEXT_LENGTH": "many"})
    home.wait_state("FATAL", limit_s=40)
    assert home.n_starts() == 6  # the first one and startretries=5
    assert "LLM_CONTEXT_LENGTH" in home.daemon.log_text()


def test_a_daemon_that_gave_up_is_started_again(supervisord: SupervisordFactory) -> None:
    leave = {"ARASUL_ON_GIVE_UP": "exit", "ARASUL_START_RETRIES": "2", "ARASUL_STABLE_SECONDS": "60"}
    home = supervisord("crash,after_s=1", env=leave)
    wait_until(lambda: home.n_starts() == 2, limit_s=20, what="the second start")
    assert "exited: arasul-supervisor (exit status 70; not expected)" in home.daemon.log_text()


def test_a_daemon_that_somebody_ended_by_hand_stays_down(supervisord: SupervisordFactory) -> None:
    home = supervisord()
    home.wait_ready()
    home.wait_state("RUNNING")
    os.kill(home.daemon_pid, signal.SIGTERM)
    home.wait_state("EXITED")
    assert "exited: arasul-supervisor (exit status 0; expected)" in home.daemon.log_text()
    assert home.carriers() == []


def test_sigterm_of_supervisord_ends_all_with_code_0(supervisord: SupervisordFactory) -> None:
    home = supervisord(HELPERS)
    home.wait_ready()
    os.kill(home.pid, signal.SIGTERM)
    assert home.popen.wait(15) == 0
    assert home.daemon.survivors() == {}


def test_a_killed_supervisord_takes_the_daemon_and_the_engine_along(supervisord: SupervisordFactory) -> None:
    home = supervisord("flood,mb_per_s=2")
    home.wait_ready()
    os.kill(home.pid, signal.SIGKILL)
    home.popen.wait(10)
    assert home.daemon.survivors(limit_s=9) == {}


def test_after_a_killed_supervisord_the_next_one_serves_again(supervisord: SupervisordFactory) -> None:
    home = supervisord()
    home.wait_ready()
    former = home.daemon_pid
    os.kill(home.pid, signal.SIGKILL)
    home.popen.wait(10)
    home.start_again(former)
    home.wait_state("RUNNING", limit_s=20)
    home.wait_ready()


def test_a_supervisord_that_does_not_read_holds_nothing_up(supervisord: SupervisordFactory) -> None:
    home = supervisord("flood,mb_per_s=20")
    home.wait_ready()
    os.kill(home.pid, signal.SIGSTOP)
    try:
        worst_s = _worst_s(home, for_s=3.0)
    finally:
        os.kill(home.pid, signal.SIGCONT)
    assert worst_s < 1.0
    assert home.daemon.process()["restarts"] == 0
    dropped = "stdout_lines_dropped"
    wait_until(lambda: dropped in home.daemon.log_text(), limit_s=10, what="the count of what was dropped")


def test_the_daemon_can_be_ended_while_supervisord_does_not_read(supervisord: SupervisordFactory) -> None:
    home = supervisord("flood,mb_per_s=20")
    home.wait_ready()
    daemon_pid = home.daemon_pid
    os.kill(home.pid, signal.SIGSTOP)
    try:
        os.kill(daemon_pid, signal.SIGTERM)
        wait_until(lambda: not is_alive(daemon_pid), limit_s=9, what="the end of the daemon")
    finally:
        os.kill(home.pid, signal.SIGCONT)


def test_as_pid_1_it_ends_all_with_code_0(supervisord: SupervisordFactory) -> None:
    home = supervisord(HELPERS, is_pid_1=True)
    home.wait_ready()
    assert pid_inside(home.pid) == 1
    os.kill(home.pid, signal.SIGTERM)
    assert home.popen.wait(15) == 0
    assert home.daemon.survivors() == {}


def test_as_pid_1_its_death_takes_all_along(supervisord: SupervisordFactory) -> None:
    home = supervisord(HELPERS, is_pid_1=True)
    home.wait_ready()
    os.kill(home.pid, signal.SIGKILL)
    home.popen.wait(10)
    assert home.daemon.survivors() == {}


def test_below_a_supervisord_that_is_pid_1_a_killed_daemon_leaves_no_real_engine(
    supervisord: SupervisordFactory, engine_binary: Path
) -> None:
    home = supervisord(engine=engine_binary, is_pid_1=True)
    home.wait_ready()
    home.wait_state("RUNNING")
    with OneTree(home.daemon.marker) as trees:
        os.kill(home.daemon_pid, signal.SIGKILL)
        wait_until(lambda: home.n_starts() == 2, limit_s=10, what="the second start")
        home.wait_ready()
    assert trees.most == 1


def test_orphans_of_the_engine_are_reaped_by_the_daemon(supervisord: SupervisordFactory) -> None:
    home = supervisord("escape,count=30,life_s=0.5", is_pid_1=True)
    home.wait_ready()
    engine_and_guardian = 2
    left = "only engine and guardian below the daemon"
    wait_until(lambda: len(children_of(home.daemon_pid)) == engine_and_guardian, limit_s=10, what=left)
    assert zombies_below(home.pid) == []


def test_the_program_alone_serves_a_supervisord_that_runs_already(
    supervisord: SupervisordFactory, tmp_path: Path
) -> None:
    config = _debian_like(tmp_path)
    home = supervisord(config=config)
    home.wait_ready()
    home.wait_state("RUNNING")
    assert "api_ready" in home.ctl("tail", "-5000", "arasul-supervisor")


def test_from_the_checkout_it_needs_nothing_on_the_path(supervisord: SupervisordFactory) -> None:
    assert CONFIG.parent.parent / ".venv" / "bin" == PROGRAMS
    home = supervisord(env={"PATH": "/usr/bin:/bin"})
    home.wait_ready()


def _debian_like(folder: Path) -> Path:
    """A supervisord's own file as Debian has it, and our program in its conf.d by the command in our file."""
    (folder / "conf.d").mkdir()
    (folder / "supervisord.conf").write_text(
        f"[unix_http_server]\nfile=/run/s.sock\n[supervisord]\nnodaemon=true\nlogfile={folder}/supervisord.log\n"
        f"pidfile=/run/s.pid\nchildlogdir={folder}\n"
        "[rpcinterface:supervisor]\n"
        "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n"
        f"[supervisorctl]\nserverurl=unix:///run/s.sock\n[include]\nfiles={folder}/conf.d/*.conf\n"
    )
    command = next(line for line in CONFIG.read_text().splitlines() if line.startswith(";     sed "))
    told = command.lstrip("; ").partition(" >")[0].replace("supervisord.conf", str(CONFIG))
    done = subprocess.run(["sh", "-c", told], capture_output=True, text=True, check=True)
    (folder / "conf.d" / "arasul-supervisor.conf").write_text(done.stdout)
    return folder / "supervisord.conf"


def _worst_s(home: Supervisord, *, for_s: float) -> float:
    """The slowest answer of daemon and engine in that time."""
    end, worst = time.monotonic() + for_s, 0.0
    while time.monotonic() < end:
        answer = home.daemon.get("/health")
        engine = home.daemon.request("GET", "/api/version", port=home.daemon.engine_port)
        assert engine.status == 200
        worst = max(worst, answer.took_s, engine.took_s)
    return worst
