"""The shipped unit and its environment file: what the rest of the project and systemd 249 count on."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from arasul_supervisor.settings.fields import FIELDS

CONFIG = Path(__file__).parents[2] / "config"
UNIT = (CONFIG / "arasul-supervisor.service").read_text()
DEFAULTS = (CONFIG / "arasul-supervisor.default").read_text()
LINES = [line for line in UNIT.splitlines() if "=" in line and not line.startswith("#")]
GPU_IS_GONE = "72"  # CONTRACT §3
LONGEST_STOP_S = 7 + 2  # ARASUL_STOP_TIMEOUT's default, and what the daemon may take beyond it


def value(key: str) -> str:
    return next(line for line in LINES if line.startswith(f"{key}=")).partition("=")[2]


def test_the_stop_limit_is_longer_than_the_daemons_own() -> None:
    assert int(value("TimeoutStopSec")) > LONGEST_STOP_S


def test_bad_settings_do_not_restart() -> None:
    assert value("RestartPreventExitStatus") == "2"


def test_a_daemon_that_left_for_a_lost_gpu_is_started_anew() -> None:
    kept_down = value("RestartPreventExitStatus").split()

    assert value("Restart") == "on-failure"
    assert GPU_IS_GONE not in kept_down
    assert not any(
        line.startswith("SuccessExitStatus=") for line in LINES
    )  # what is a success does not restart


def test_no_number_of_starts_is_too_many() -> None:
    assert value("StartLimitIntervalSec") == "0"


def test_a_new_start_loads_the_module_that_a_suspend_may_have_cost() -> None:
    assert "Wants=modprobe@nvidia_uvm.service" in LINES


@pytest.mark.parametrize(
    "key", ["PrivateDevices", "DevicePolicy", "DeviceAllow", "ProtectClock", "MemoryDenyWriteExecute"]
)
def test_nothing_takes_the_gpu_away(key: str) -> None:
    assert not any(line.startswith(f"{key}=") for line in LINES)


@pytest.mark.parametrize("key", ["RestartSteps", "RestartMaxDelaySec", "MemoryZSwapMax", "ImportCredential"])
def test_no_key_is_newer_than_systemd_249(key: str) -> None:
    assert key not in UNIT
    assert value("Type") == "notify"  # notify-reload came with 253


def test_systemd_finds_no_fault_in_it(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("NOT TESTED: the unit by systemd-analyze, which is not installed")
    copy = tmp_path / "arasul-supervisor.service"
    copy.write_text(re.sub(r"^ExecStart=.*$", "ExecStart=/bin/true", UNIT, flags=re.MULTILINE))
    said = subprocess.run(
        ["systemd-analyze", "verify", copy], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert (said.returncode, said.stdout) == (0, "")


def test_the_environment_file_names_only_settings_that_exist() -> None:
    named = set(re.findall(r"^#?([A-Z][A-Z0-9_]+)=", DEFAULTS, re.MULTILINE))
    assert named - {field.variable for field in FIELDS} == {"OLLAMA_MODELS"}


def test_the_environment_file_changes_nothing_as_it_is_shipped() -> None:
    assert not re.findall(r"^[^#\s]", DEFAULTS, re.MULTILINE)
