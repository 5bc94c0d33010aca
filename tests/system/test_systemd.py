"""The installed service in a booted systemd: start, status, watchdog, kill, stop, reload, journal, hardening."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import pytest

from tests.engine.processes import wait_until
from tests.system.ground.nspawn import Guest, need_systemd
from tests.system.ground.service import ENV_FILE, LOG, MODELS, UNIT, Service, binds_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.engine.store import ModelFiles

WORST_EXPOSURE = 2.0
STORE = {"OLLAMA_MODELS": "/var/lib/arasul-supervisor/models"}


@pytest.fixture(scope="module")
def guest(
    tmp_path_factory: pytest.TempPathFactory, engine_binary: Path, model_files: ModelFiles
) -> Iterator[Guest]:
    """A guest with the service installed by our own install step, with a user of its own."""
    need_systemd()
    guest = Guest(binds=binds_for(engine_binary, model_files(), tmp_path_factory.mktemp("store")))
    try:
        Service(guest).install()
        guest.run("cp", "-r", MODELS, STORE["OLLAMA_MODELS"])
        guest.run("chown", "-R", "arasul-supervisor:", STORE["OLLAMA_MODELS"])
        yield guest
    finally:
        guest.off()


@pytest.fixture
def service(guest: Guest) -> Iterator[Service]:
    """The service, running as it was installed."""
    service = Service(guest)
    service.set_up(settings=STORE)
    guest.run("systemctl", "reset-failed", UNIT, check=False)
    service.start()
    yield service
    print(f"--- the journal's last lines:\n{guest.journal(UNIT)[-4000:]}")


def make_ollama(guest: Guest, serve: str) -> str:
    """An Ollama that serves in that way, written in shell."""
    path = "/usr/local/bin/other-ollama"
    guest.write(path, f'#!/bin/sh\n[ "$1" = serve ] || exec ollama "$@"\n{serve}\n')
    guest.run("chmod", "755", path)
    return path


def make_slow(guest: Guest, seconds: float) -> str:
    """An Ollama that needs so long before it answers anything."""
    return make_ollama(guest, f"sleep {seconds}; exec ollama serve")


def test_start_comes_back_once_ollama_answers(service: Service) -> None:
    service.stop()
    service.start()
    assert service.is_answering()
    assert re.fullmatch(r"Ollama \d\S+ answers\.", service.status)


def test_a_model_loads_and_answers_inside_the_hardening(service: Service) -> None:
    service.load_model()
    assert any("llama-server" in command for command in service.processes().values())


def test_the_status_says_that_the_engine_is_starting(service: Service) -> None:
    service.set_up(settings={**STORE, "ARASUL_OLLAMA": make_slow(service.guest, 4)})
    service.begin()
    wait_until(
        lambda: "starting" in service.status.lower(), limit_s=3, what=f"STATUS of a start ({service.status})"
    )
    assert service.show("ActiveState") == "activating"


def test_a_failed_first_start_counts_as_started_and_the_status_gives_the_reason(service: Service) -> None:
    service.stop()
    holder = ("systemd-run", "--quiet", "--unit=holder", "python3", "-m", "http.server", "11434")
    service.guest.run(*holder)
    try:
        wait_until(lambda: service.answers(11434), limit_s=10, what="the port is held")
        assert service.start(check=False).returncode == 0
        assert service.status.startswith("Port 11434 is held by")
    finally:
        service.guest.run("systemctl", "stop", "holder")


def test_a_stuck_daemon_is_ended_by_the_watchdog_and_nothing_of_it_is_left(service: Service) -> None:
    service.set_up(settings=STORE, unit="WatchdogSec=2\nRestartSec=100ms")
    service.start()
    former, engine = service.processes(), service.engine_pid()
    assert engine is not None
    service.guest.run("kill", "-STOP", str(service.pid))
    wait_until(lambda: service.show("NRestarts") == "1", limit_s=15, what="the watchdog's restart")
    service.wait_for_other_engine(engine)
    assert not former.keys() & service.processes().keys()
    assert "Failed with result 'watchdog'" in service.guest.journal(UNIT)


def test_neither_watchdog_nor_start_limit_hits_while_the_engine_takes_its_time(service: Service) -> None:
    slow = {**STORE, "ARASUL_OLLAMA": make_slow(service.guest, 7)}
    service.set_up(settings=slow, unit="WatchdogSec=1\nTimeoutStartSec=3\nRestart=no")
    begun = time.monotonic()
    service.start()
    assert time.monotonic() - begun > 6
    assert service.is_answering()
    assert service.show("NRestarts") == "0"


def test_a_killed_daemon_leaves_no_engine_and_comes_back(service: Service) -> None:
    service.load_model()
    former, engine = service.processes(), service.engine_pid()
    assert engine is not None and len(former) >= 4  # daemon, guardian, engine, runner
    service.guest.run("kill", "-KILL", str(service.pid))
    service.wait_for_other_engine(engine)
    assert not former.keys() & service.processes().keys()


def test_stop_ends_all_within_its_time_and_counts_as_success(service: Service) -> None:
    service.load_model()
    assert service.stop() < 9
    assert service.show("Result") == "success"
    assert service.show("ExecMainStatus") == "0"
    assert service.guest.in_cgroup_of(UNIT) == []
    assert "ollama" not in service.guest.said("ps", "-eo", "args=")


def test_a_long_stop_time_of_the_engine_is_granted(service: Service) -> None:
    deaf = make_ollama(service.guest, "trap '' TERM; ollama serve & while :; do wait; sleep 0.1; done")
    settings = {**STORE, "ARASUL_OLLAMA": deaf, "ARASUL_STOP_TIMEOUT": "4"}
    service.set_up(settings=settings, unit="TimeoutStopSec=2")
    service.start()
    assert 4 <= service.stop() < 6
    assert service.show("Result") == "success"


def test_reload_opens_the_engines_log_anew(service: Service) -> None:
    service.guest.run("mv", LOG, f"{LOG}.1")
    service.guest.run("systemctl", "reload", UNIT)
    assert service.answers(11434)  # for which the engine writes a line
    wait_until(lambda: service.guest.has(LOG), limit_s=10, what="a new log file")


def test_bad_settings_fail_the_start_once_with_every_reason_in_the_journal(service: Service) -> None:
    service.set_up(settings={"LLM_CONTEXT_LENGTH": "many", "ARASUL_PORT": "11435"})
    assert service.start(check=False).returncode != 0
    assert service.show("SubState") == "failed"  # and not `auto-restart`
    assert service.show("ExecMainStatus") == "2"
    said = service.guest.journal(UNIT)
    assert "LLM_CONTEXT_LENGTH is 'many'" in said
    assert "ARASUL_PORT is '11435'" in said


def test_the_journal_is_readable_and_holds_the_engines_lines_too(service: Service) -> None:
    wait_until(lambda: "engine_ready" in service.guest.journal(UNIT), limit_s=5, what="the journal's lines")
    lines = service.guest.journal(UNIT).splitlines()
    assert any(line.startswith("ollama | ") for line in lines)
    assert not any(line.startswith("{") for line in lines)


def test_the_documented_path_of_the_log_leads_to_it(service: Service) -> None:
    assert "Listening on" in service.guest.said("cat", "/var/log/ollama.log")


def test_the_unit_has_no_fault_that_systemd_knows_of(guest: Guest) -> None:
    assert guest.said("systemd-analyze", "verify", f"/etc/systemd/system/{UNIT}") == ""


def test_the_unit_is_hardened_as_far_as_the_gpu_allows(guest: Guest) -> None:
    shown = guest.said("systemd-analyze", "security", "--no-pager", UNIT).splitlines()[-1]
    print(shown)
    score = re.search(r"level for .*: (\d+\.\d+)", shown)
    assert score is not None
    assert float(score[1]) <= WORST_EXPOSURE


def test_the_service_runs_without_any_privilege(service: Service) -> None:
    engine = service.engine_pid()
    status = service.guest.said("cat", f"/proc/{engine}/status")
    fields = dict(re.findall(r"^(\w+):\t(.*)$", status, re.MULTILINE))
    assert fields["Uid"].split()[0] != "0"
    assert int(fields["CapEff"], 16) == int(fields["CapBnd"], 16) == 0
    assert (fields["NoNewPrivs"], fields["Seccomp"]) == ("1", "2")


def test_the_engine_sees_every_device_node(service: Service) -> None:
    service.guest.run("touch", "/dev/nvidia0")
    seen = ("nsenter", "--target", str(service.engine_pid()), "--mount", "ls", "/dev/nvidia0")
    assert service.guest.said(*seen) == "/dev/nvidia0"
    assert service.show("DevicePolicy") == "auto"
    assert "DeviceAllow" not in service.guest.show(UNIT, "DeviceAllow")


def test_the_engine_and_not_the_daemon_is_the_victim_when_memory_runs_out(service: Service) -> None:
    eater = "import time; x = bytearray(600 << 20); time.sleep(60)"
    greedy = make_ollama(service.guest, f'exec python3 -c "{eater}"')
    service.set_up(settings={**STORE, "ARASUL_OLLAMA": greedy}, unit="MemoryMax=300M")
    service.start()
    daemon = service.pid
    wait_until(lambda: service.curl("/api/process")["restarts"] >= 1, limit_s=20, what="the engine's restart")
    last_exit = service.curl("/api/process")["last_exit"]
    assert "memory" in last_exit["reason"], last_exit
    assert (service.pid, service.show("NRestarts")) == (daemon, "0")


def test_a_second_install_replaces_the_program_keeps_the_settings_and_restarts_the_service(
    service: Service,
) -> None:
    pid, venv = service.pid, service.guest.said("ls", "/opt/arasul-supervisor/venvs")
    service.install()
    assert service.pid != pid
    assert f"OLLAMA_MODELS={STORE['OLLAMA_MODELS']}" in service.guest.said("cat", ENV_FILE)
    after = service.guest.said("ls", "/opt/arasul-supervisor/venvs").split()
    assert len(after) == 1
    assert after != [venv]
