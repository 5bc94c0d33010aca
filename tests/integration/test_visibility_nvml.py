"""Guards what the doctor asks of NVIDIA's library: once, in a child, in bounded time (facts/gpu.md §3.4, §3.5)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from arasul_supervisor.telemetry.gpu import nvml_verdict as nvml
from arasul_supervisor.telemetry.gpu.nvml_verdict import NvmlVerdict, nvml_verdict
from arasul_supervisor.telemetry.visibility.checks_health import check_nvml
from arasul_supervisor.telemetry.visibility.facts import read_driver
from tests.engine.board_trees import answers
from tests.engine.nvml_stub import build_nvml_stub
from tests.engine.visibility_ground import well_pc

if TYPE_CHECKING:
    from pathlib import Path

    from arasul_supervisor.telemetry.visibility.finding import Finding

CARD = "x86-one-gpu"


def asked(folder: Path, *, fault: str = "", timeout_s: float = 10.0) -> NvmlVerdict:
    """What the stub library of this fault makes of the question."""
    stub = build_nvml_stub(folder)
    stub.answer(answers(CARD, fault=fault) or "")
    return nvml_verdict(timeout_s=timeout_s, environ=stub.environ)


def nvml_of(root: Path, verdict: NvmlVerdict | None) -> tuple[Finding, ...]:
    return check_nvml(verdict, read_driver(root, {}), timeout_s=10)


def test_a_card_that_answers_is_well(tmp_path: Path) -> None:
    found = nvml_of(well_pc(tmp_path), asked(tmp_path))

    assert [(one.status, "NVIDIA H100" in one.seen) for one in found] == [("ok", True)]


@pytest.mark.parametrize(
    ("fault", "word"),
    [
        ("gpu-lost-15", "fallen off the bus"),
        ("reset-required-16", "needs a reset"),
        ("blocked-by-os-17", "out of reach"),
        ("driver-mismatch-18", "upgraded under the running kernel"),
        ("unknown-999", "out of reach"),
        ("driver-not-loaded-9", "no kernel driver"),
    ],
)
def test_each_sickness_is_named_with_what_brings_the_card_back(fault: str, word: str, tmp_path: Path) -> None:
    found = nvml_of(well_pc(tmp_path), asked(tmp_path, fault=fault))

    assert [one.status for one in found] == ["fail"]
    assert word in found[0].seen and found[0].advice


def test_a_library_that_hangs_is_given_up_in_time(tmp_path: Path) -> None:
    began = time.monotonic()

    verdict = asked(tmp_path, fault="hang-at-init", timeout_s=1.0)

    assert time.monotonic() - began < 10  # gcc's own time included
    assert verdict.outcome == nvml.SILENT
    assert nvml_of(well_pc(tmp_path), verdict)[0].status == "fail"


def test_a_library_that_knows_no_card_contradicts_the_bus(tmp_path: Path) -> None:
    found = nvml_of(well_pc(tmp_path), asked(tmp_path, fault="no-gpus"))

    assert [(one.status, "dmesg" in one.advice) for one in found] == [("fail", True)]


def test_a_card_that_was_given_to_another_container_is_skipped_beside_our_own(tmp_path: Path) -> None:
    stub = build_nvml_stub(tmp_path)
    stub.answer("gpu1.handle = !4\n" + (answers("x86-two-gpus-mig") or ""))

    found = nvml_of(well_pc(tmp_path / "pc"), nvml_verdict(timeout_s=10, environ=stub.environ))

    assert [one.status for one in found] == ["ok", "skip"]


def test_without_the_library_the_child_says_so(tmp_path: Path) -> None:
    verdict = nvml_verdict(timeout_s=10, environ={"LD_LIBRARY_PATH": str(tmp_path)})

    assert (verdict.outcome, verdict.code) == (nvml.REFUSED, 12)
    assert [one.status for one in nvml_of(well_pc(tmp_path / "pc"), verdict)] == ["fail"]
    assert [one.status for one in nvml_of(tmp_path, verdict)] == ["skip"]
