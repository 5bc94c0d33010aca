"""Guards the doctor's checks of the library's word, the kernel's log, the memory and the daemon's word."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from arasul_supervisor.telemetry.gpu import nvml_verdict as nvml
from arasul_supervisor.telemetry.gpu.nvml_verdict import NvmlVerdict
from arasul_supervisor.telemetry.gpu.readings import GpuReading
from arasul_supervisor.telemetry.visibility.checks_health import (
    check_daemon,
    check_jtop,
    check_kernel_log,
    check_memory,
    check_nvml,
    own_cards,
)
from arasul_supervisor.telemetry.visibility.facts import read_driver
from arasul_supervisor.telemetry.visibility.kernel_log import (
    KernelLog,
    Xid,
    parse_xids,
    read_journal,
    read_kernel_log,
)
from tests.engine.visibility_ground import well_orin, well_pc, write

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from arasul_supervisor.telemetry.visibility.finding import Finding

GIB = 2**30
KMSG = "4,2590,9147031144,-;NVRM: Xid (PCI:0000:65:00): 79, pid=1234, GPU has fallen off the bus.\n"


def nvml_of(root: Path, verdict: NvmlVerdict | None) -> tuple[Finding, ...]:
    return check_nvml(verdict, read_driver(root, {}), timeout_s=10)


def log_of(root: Path, *numbers: int, is_well: bool | None = None) -> tuple[Finding, ...]:
    xids = tuple(Xid(number, "0000:65:00", 700.0) for number in numbers)
    return check_kernel_log(KernelLog(xids), read_driver(root, {}), is_well=is_well)


# NVML


def test_a_jetson_computes_without_nvml(tmp_path: Path) -> None:
    found = nvml_of(well_orin(tmp_path), NvmlVerdict(nvml.REFUSED, 12))

    assert [one.status for one in found] == ["skip"]


@pytest.mark.parametrize(
    ("verdict", "status"),
    [
        (None, "skip"),
        (NvmlVerdict(nvml.NOT_ASKED, has_bindings=False), "skip"),
        (NvmlVerdict(nvml.DIED), "fail"),
    ],
    ids=["nothing to ask", "no bindings", "died of it"],
)
def test_a_question_without_an_answer(verdict: NvmlVerdict | None, status: str, tmp_path: Path) -> None:
    assert [one.status for one in nvml_of(well_pc(tmp_path), verdict)] == [status]


@pytest.mark.parametrize(
    ("hidden", "status", "word"),
    [
        ("hidden", "fail", "on the PCI bus there is 0000:01:00.0"),
        ("sys/bus", "fail", "in /proc/driver/nvidia/gpus there is 0000:65:00.0"),
        ("sys/bus proc/driver", "warn", "though its driver is here"),
    ],
    ids=["the bus knows a card", "the module lists one", "nobody knows one"],
)
def test_a_library_that_knows_no_card_beside_a_driver_is_told(
    hidden: str, status: str, word: str, tmp_path: Path
) -> None:
    root = well_pc(tmp_path)
    (root / "proc/driver/nvidia/gpus/0000:65:00.0").mkdir(parents=True)
    (root / "hidden").mkdir()
    for folder in hidden.split():
        shutil.rmtree(root / folder)

    found = nvml_of(root, NvmlVerdict(nvml.ANSWERED))

    assert [(one.status, word in one.seen, one.advice != "") for one in found] == [(status, True, True)]


@pytest.mark.parametrize(("make", "status"), [(well_orin, "skip"), (lambda root: root, "ok")])
def test_a_library_that_rightly_knows_no_card_alarms_nobody(
    make: Callable[[Path], Path], status: str, tmp_path: Path
) -> None:
    found = nvml_of(make(tmp_path), NvmlVerdict(nvml.ANSWERED))

    assert [one.status for one in found] == [status]


FOREIGN = GpuReading(index=0, state="no_access", refusals={"handle": 4})
OWN = GpuReading(index=1, name="NVIDIA A10")


def test_the_card_of_another_container_is_no_fault_of_this_one(tmp_path: Path) -> None:
    found = nvml_of(well_pc(tmp_path), NvmlVerdict(nvml.ANSWERED, readings=(FOREIGN, OWN)))

    assert [(one.status, "not given to this container" in one.seen) for one in found] == [
        ("skip", True),
        ("ok", False),
    ]


@pytest.mark.parametrize(
    "readings",
    [
        (FOREIGN,),
        (FOREIGN, GpuReading(index=1, state="lost")),
        (GpuReading(index=0, state="no_access", refusals={"handle": 999}), OWN),
        (GpuReading(index=0, state="lost", refusals={"handle": 15}), OWN),
    ],
    ids=["it is the only one", "the other is lost", "it is out of reach otherwise", "it is lost"],
)
def test_a_card_that_may_be_ours_is_not_taken_for_anothers(
    readings: tuple[GpuReading, ...], tmp_path: Path
) -> None:
    found = nvml_of(well_pc(tmp_path), NvmlVerdict(nvml.ANSWERED, readings=readings))

    assert own_cards(readings) == readings
    assert found[0].status == "fail"


# the kernel's log


def test_a_quiet_log_is_well(tmp_path: Path) -> None:
    root = well_pc(tmp_path)

    found = check_kernel_log(read_kernel_log(root), read_driver(root, {}), is_well=None)

    assert [(one.status, "still holds" in one.seen) for one in found] == [("ok", True)]


def test_a_log_without_a_line_is_not_called_quiet(tmp_path: Path) -> None:
    root = well_pc(tmp_path)
    (root / "dev/kmsg").unlink()
    (root / "dev/kmsg").symlink_to("/dev/null")

    found = check_kernel_log(read_kernel_log(root), read_driver(root, {}), is_well=None)

    assert [(one.status, "holds no line" in one.seen) for one in found] == [("skip", True)]


@pytest.mark.parametrize("said", ["-- No entries --", "", "-- Journal begins at Mon. --"])
def test_a_journal_without_a_line_of_the_kernel_is_not_called_quiet(said: str) -> None:
    log = read_journal(("echo", said), 9200.0, timeout_s=5)

    assert (log.xids, log.problem) == ((), "echo shows no line of the kernel")


def test_the_journals_lines_are_read() -> None:
    said = "-- Journal begins at Mon. --\n[ 9147.031144] box kernel: NVRM: Xid (PCI:0000:65:00): 31, pid=7"

    log = read_journal(("echo", said), 9200.0, timeout_s=5)

    assert ([xid.number for xid in log.xids], log.problem) == ([31], "")


def test_a_journal_that_does_not_answer_is_not_waited_for() -> None:
    log = read_journal(("sleep", "20"), None, timeout_s=0.2)

    assert log.problem == "sleep: no answer within 0.2 s"


def test_a_report_is_read_with_its_age(tmp_path: Path) -> None:
    root = well_pc(tmp_path)
    write(root, "dev/kmsg", "6,1,100,-;Linux version\n" * 500 + KMSG)

    log = read_kernel_log(root)

    assert [(xid.number, xid.address, round(xid.age_s or 0)) for xid in log.xids] == [(79, "0000:65:00", 852)]


def test_a_line_of_the_journal_is_read_as_well() -> None:
    line = "[ 9147.031144] box kernel: NVRM: Xid (PCI:0000:65:00): 31, pid=7, name=ollama, MMU Fault"

    assert list(parse_xids([line], 9200.0)) == [Xid(31, "0000:65:00", 53.0)]  # 9200 less the whole seconds


def test_a_log_that_may_not_be_read_is_skipped_with_the_reason(tmp_path: Path) -> None:
    root = well_pc(tmp_path)
    (root / "dev/kmsg").unlink()

    found = check_kernel_log(read_kernel_log(root), read_driver(root, {}), is_well=None)

    assert [(one.status, "No such file" in one.seen) for one in found] == [("skip", True)]


def test_a_log_that_gives_no_byte_does_not_hold_us_up(tmp_path: Path) -> None:
    root = well_pc(tmp_path)
    (root / "dev/kmsg").unlink()
    os.mkfifo(root / "dev/kmsg")
    writer = os.open(root / "dev/kmsg", os.O_RDWR | os.O_NONBLOCK)

    log = read_kernel_log(root)

    os.close(writer)
    assert (log.xids, log.problem) == ((), "/dev/kmsg holds no line")


@pytest.mark.parametrize(
    ("number", "is_well", "status"),
    [
        (79, None, "fail"),
        (119, None, "fail"),
        (48, False, "fail"),
        (95, None, "fail"),
        (120, True, "warn"),
        (13, None, "warn"),
        (31, None, "warn"),
        (43, None, "warn"),
        (45, None, "warn"),
        (999, None, "warn"),
    ],
)
def test_a_report_of_the_card_is_graver_than_one_of_a_program(
    number: int, is_well: bool | None, status: str, tmp_path: Path
) -> None:
    found = log_of(well_pc(tmp_path), number, is_well=is_well)

    assert [(one.status, bool(one.advice)) for one in found] == [(status, True)]


def test_a_report_that_came_often_is_one_line_with_its_count(tmp_path: Path) -> None:
    found = log_of(well_pc(tmp_path), 31, 13, 31, 31)

    assert [one.seen.partition(" (")[0] for one in found] == ["Xid 13", "Xid 31"]
    assert "3 times in the kernel's log, last 12 min ago" in found[1].seen


# memory


@pytest.mark.parametrize(
    ("limit", "is_unified", "status"),
    [
        (None, True, "ok"),
        (60 * GIB, True, "ok"),
        (4 * GIB, True, "warn"),
        (4 * GIB, False, "skip"),
    ],
    ids=["no limit", "a wide one", "a tight one", "memory of its own"],
)
def test_a_tight_limit_on_shared_memory_is_what_ollama_plans_with(
    limit: int | None, is_unified: bool, status: str
) -> None:
    found = check_memory(total_bytes=64 * GIB, limit_bytes=limit, current_bytes=None, is_unified=is_unified)

    assert found.status == status


# the daemon


@pytest.mark.parametrize(
    ("word", "status"),
    [("ok", "ok"), ("warn", "warn"), ("fail", "fail"), ("unknown", "warn"), ("skipped", "skip")],
)
def test_the_daemons_health_point_is_passed_on(word: str, status: str) -> None:
    found = check_daemon({"checks": {"gpu": {"status": word, "detail": "GPU 0 is hot."}}}, ())

    assert (found.status, "GPU 0 is hot." in found.seen) == (status, True)


def test_a_source_that_is_not_well_is_told_beside_it() -> None:
    sources = ({"state": "stuck", "detail": "The driver hangs."}, {"state": "none", "detail": "no jtop"})

    found = check_daemon({"checks": {"gpu": {"status": "ok", "detail": "fine."}}}, sources)

    assert "The driver hangs." in found.seen and "jtop" not in found.seen


def test_jetson_stats_is_told_of_on_a_line_of_its_own() -> None:
    sources = ({"source": "jtop", "state": "stuck", "detail": "The jtop service hangs."},)

    found = check_daemon({"checks": {"gpu": {"status": "ok", "detail": "fine."}}}, sources)

    assert found.status == "ok" and "jtop" not in found.seen
    assert check_jtop("The jtop service hangs.").status == "warn"


@pytest.mark.parametrize("health", [{}, {"checks": None}, {"checks": {"gpu": 7}}])
def test_a_daemon_that_says_nothing_of_the_gpu_is_skipped(health: dict[str, object]) -> None:
    assert check_daemon(health, ()).status == "skip"
