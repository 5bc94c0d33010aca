"""Guards facts/ollama.md §7 rows 11 to 14 and facts/gpu.md §3.4: a GPU is called sick after its time, by its name."""

from __future__ import annotations

from typing import Any

import pytest

from arasul_supervisor.healing.diagnosis.gpu_rules import GpuWatch, forbidden_cures
from arasul_supervisor.healing.diagnosis.verdicts import Cure, Kind, Verdict
from arasul_supervisor.healing.looking.witnesses import EngineLook, GpuLook, LogLook, Look

WELL = GpuLook("ok", is_well=True, has_worked=True, load_percent=0.0, sentence="GPU 0 (A10) answers.")
CPU = LogLook(is_on_cpu=True)


def sick(state: str, *, has_worked: bool = True) -> GpuLook:
    return GpuLook(
        state, is_well=False, has_worked=has_worked, load_percent=None, sentence="Seen so. Do this."
    )


class Box:
    """Looks two seconds apart."""

    def __init__(self) -> None:
        self.watch, self.now, self.generation = GpuWatch(), 1000.0, 1

    def see(
        self, gpu: GpuLook | None, seconds: float, *, watched_s: float = 2.0, **more: Any
    ) -> list[Verdict]:
        """What is said after these seconds. Any: fields of the look."""
        end = self.now + seconds
        while self.now < end:
            self.now += 2.0
            engine = EngineLook(self.generation, None, 0, 60.0, is_llama_server=True)
            look = Look(self.now, 0.0, **{"engine": engine, "gpu": gpu, **more})
            self.watch = self.watch.after(look, watched_s)
        return list(self.watch.verdicts(self.now))


def kinds(verdicts: list[Verdict]) -> list[Kind]:
    return [verdict.kind for verdict in verdicts]


def test_a_well_gpu_is_no_illness() -> None:
    assert Box().see(WELL, 600) == []


@pytest.mark.parametrize("state", ["lost", "reset_required"])
def test_a_gpu_that_is_gone_is_broken_at_the_second_look(state: str) -> None:
    box = Box()

    assert box.see(sick(state), 2) == []
    (verdict,) = box.see(sick(state), 2)
    assert (verdict.kind, verdict.since_mono) == (Kind.GPU_BROKEN, 1002.0)
    assert verdict.evidence == f"The GPU is in state {state} for 2 s (2 looks): Seen so."


def test_a_gpu_that_is_stuck_has_a_minute_to_answer() -> None:
    box = Box()

    assert box.see(sick("stuck"), 60) == []
    assert kinds(box.see(sick("stuck"), 2)) == [Kind.GPU_BROKEN]


def test_a_gpu_that_answers_in_between_begins_anew() -> None:
    box = Box()
    box.see(sick("stuck"), 58)
    box.see(WELL, 2)

    assert box.see(sick("stuck"), 58) == []


def test_a_gpu_out_of_reach_after_it_worked_is_unreachable_after_ten_seconds() -> None:
    box = Box()

    assert box.see(sick("no_access"), 10) == []
    (verdict,) = box.see(sick("no_access"), 2)
    assert verdict.kind is Kind.GPU_UNREACHABLE
    assert verdict.evidence == "The GPU worked and is out of reach for 10 s (6 looks): Seen so."


def test_a_gpu_that_was_never_in_reach_is_no_loss() -> None:
    assert Box().see(sick("no_access", has_worked=False), 600) == []


@pytest.mark.parametrize("state", ["driver_mismatch", "no_driver", "none", "unknown", "gated"])
def test_other_states_are_for_health_to_tell(state: str) -> None:
    assert Box().see(sick(state), 600) == []


def test_seconds_that_nobody_watched_do_not_count() -> None:
    box = Box()

    assert box.see(sick("stuck"), 600, watched_s=0.0) == []
    assert box.see(sick("no_access"), 600, watched_s=0.0) == []


def test_an_engine_on_the_cpu_beside_a_gpu_that_answers_has_fallen_back() -> None:
    box = Box()

    assert box.see(WELL, 6, log=CPU) == []
    (verdict,) = box.see(WELL, 2, log=CPU)
    assert verdict.kind is Kind.CPU_FALLBACK
    assert verdict.evidence == (
        "The engine's log said at its start that it computes on the CPU, and a GPU has answered for 6 s (4 looks): "
        "GPU 0 (A10) answers."
    )


@pytest.mark.parametrize(
    "seen",
    [
        {"log": CPU, "cpu_wish": "LLM_GPU_LAYERS is 0"},
        {"log": LogLook({"gpu_no_access": (1, 1.0)}, is_on_cpu=True)},
        {"log": LogLook({"gpu_driver": (1, 1.0)}, is_on_cpu=True)},
        {"log": LogLook()},
        {"log": CPU, "engine": None},
    ],
    ids=["meant to", "no right to the device", "a driver too old", "on the GPU", "no engine"],
)
def test_an_engine_that_no_restart_brings_to_the_gpu_is_left_alone(seen: dict[str, Any]) -> None:
    assert Box().see(WELL, 60, **seen) == []


def test_a_gpu_that_does_not_answer_is_no_reason_to_start_the_engine_anew() -> None:
    assert Box().see(sick("no_driver"), 60, log=CPU) == []


def test_a_new_engine_has_its_own_time() -> None:
    box = Box()
    box.see(WELL, 60, log=CPU)
    box.generation = 2

    assert box.see(WELL, 6, log=CPU) == []
    assert kinds(box.see(WELL, 2, log=CPU)) == [Kind.CPU_FALLBACK]


def faults(count: int, at_mono: float) -> LogLook:
    return LogLook({"gpu_fault": (count, at_mono)})


def test_three_faults_within_ten_minutes_are_the_gpus() -> None:
    box = Box()
    box.see(WELL, 2, log=faults(1, 1002.0))
    assert box.see(WELL, 2, log=faults(2, 1004.0)) == []

    box.now = 1500.0
    (verdict,) = box.see(WELL, 2, log=faults(3, 1502.0))
    assert (verdict.kind, verdict.since_mono) == (Kind.GPU_BROKEN, 1002.0)
    assert "3 GPU faults within 500 s" in verdict.evidence


def test_faults_that_are_further_apart_are_not() -> None:
    box = Box()
    box.see(WELL, 2, log=faults(2, 1002.0))
    box.now = 1602.0

    assert box.see(WELL, 2, log=faults(3, 1604.0)) == []


def test_faults_count_on_over_a_restart_of_the_engine() -> None:
    box = Box()
    box.see(WELL, 2, log=faults(2, 1002.0))
    box.generation = 2

    assert kinds(box.see(WELL, 2, log=faults(1, 1004.0))) == [Kind.GPU_BROKEN]


def test_a_fault_that_goes_on_being_told_counts_once() -> None:
    box = Box()
    box.see(WELL, 300, log=faults(1, 1002.0))
    box.see(WELL, 2, log=LogLook())  # health has forgotten it

    assert box.see(WELL, 2, log=faults(1, 1304.0)) == []


@pytest.mark.parametrize(
    ("state", "forbidden"),
    [
        ("lost", {Cure.RESTART_ENGINE, Cure.EXIT}),
        ("reset_required", {Cure.RESTART_ENGINE, Cure.EXIT}),
        ("stuck", {Cure.RESTART_ENGINE, Cure.EXIT}),
        ("driver_mismatch", {Cure.RESTART_ENGINE, Cure.EXIT}),
        ("no_access", {Cure.RESTART_ENGINE}),
        ("ok", set()),
        ("gated", set()),
        ("none", set()),
    ],
)
def test_a_state_forbids_what_would_make_it_worse(state: str, forbidden: set[Cure]) -> None:
    assert forbidden_cures(state) == forbidden
