"""Guards §7 row 21 of the facts: a model that kills the engine is found by two crashes, and no other is blamed."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path

import pytest

from arasul_supervisor.healing.aftermath.poison import (
    Conviction,
    CrashBook,
    Ending,
    can_be_a_models_doing,
    last_load,
    suspicion,
)
from arasul_supervisor.supervision.snapshot import ExitReport

RECORDED = Path(__file__).parents[1] / "recorded"
A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64
AT = 1_795_995_200.0  # 2026-11-29T23:33:20Z
PANIC = "panic: runtime error: index out of range [0] with length 0"


def report(*, code: int | None = None, number: int | None = None, is_oom_kill: bool = False) -> ExitReport:
    return ExitReport(3, code, number, "it ended", at=AT, ran_s=60.0, is_oom_kill=is_oom_kill)


def start(blob: str, *, at: str = "2026-11-29T23:33:19.500Z", program: str = "runner") -> str:
    cmd = f"/usr/bin/ollama {program} --model /a b/blobs/{blob.replace(':', '-')} --port 40423"
    return f'time={at} level=INFO source=server.go:433 msg="starting {program}" cmd="{cmd}"'


def started(at: str = "2026-11-29T23:33:19.800Z") -> str:
    return f'time={at} level=INFO source=server.go:1432 msg="llama runner started in 0.28 seconds"'


def ending(*lines: str, of: ExitReport | None = None, active: frozenset[str] = frozenset()) -> Ending:
    return Ending(of or report(code=2), lines, active=active)


def suspect(of: Ending) -> str | None:
    found = suspicion(of)
    return found.blob if found else None


def recorded(name: str) -> tuple[str, ...]:
    return tuple((RECORDED / name).read_text(encoding="utf-8", errors="replace").splitlines())


def test_the_recorded_panic_of_a_load_speaks_against_the_model_that_was_being_loaded() -> None:
    lines = recorded("ollama-0.24.0/gguf_without_block_count.log")
    at = 1_795_472_020.9  # 2026-11-23T22:13:40.9Z

    found = suspicion(Ending(ExitReport(1, 2, None, "exited with code 2", at=at, ran_s=0.2), lines))

    assert found is not None
    assert found.blob == "sha256:d43b9de66c37a7ff30d19aa3831bd4be01dc03ca2885a2c2eb1ea89ccd581eb6"
    assert found.doing == "was being loaded"
    assert found.how == f"exit code 2, {PANIC}"


def test_the_recorded_dump_of_a_sigquit_speaks_against_nobody() -> None:
    lines = recorded("ollama-0.24.0/server_quit.log")
    load = last_load(lines)
    assert load is not None

    of = Ending(ExitReport(1, 2, None, "", at=load.at + 1, ran_s=1.0), lines, active=frozenset({load.blob}))

    assert suspicion(of) is None


def test_the_recorded_segfault_of_a_server_speaks_against_the_only_one_that_was_at_work() -> None:
    lines = recorded("ollama-0.24.0/server_segfaulted.log")
    load = last_load(lines)
    assert load is not None

    of = Ending(ExitReport(1, 2, None, "", at=load.at + 1, ran_s=1.0), lines, active=frozenset({load.blob}))

    assert suspect(of) == load.blob


@pytest.mark.parametrize("generation", ["ollama-0.24.0", "ollama-0.34.4"])
def test_the_loads_of_every_recorded_fault_are_told_to_be_over_but_that_of_the_poison_model(
    generation: str,
) -> None:
    loads = {
        path.stem: last_load(recorded(f"{generation}/{path.name}"))
        for path in (RECORDED / generation).iterdir()
    }

    under_way = {name for name, load in loads.items() if load is not None and load.is_under_way}

    assert under_way == ({"gguf_without_block_count"} if generation == "ollama-0.24.0" else set())


@pytest.mark.parametrize(
    "of",
    [
        pytest.param(report(code=2), id="a Go crash"),
        *(
            pytest.param(report(number=getattr(signal, name)), id=name)
            for name in ("SIGSEGV", "SIGABRT", "SIGBUS", "SIGILL", "SIGFPE")
        ),
        pytest.param(report(code=128 + signal.SIGSEGV), id="SIGSEGV behind a shell"),
        pytest.param(report(number=signal.SIGKILL, is_oom_kill=True), id="the OOM killer"),
    ],
)
def test_an_end_that_a_model_can_cause_counts(of: ExitReport) -> None:
    assert suspect(ending(start(A), PANIC, of=of)) == A


@pytest.mark.parametrize(
    "of",
    [
        *(
            pytest.param(report(number=getattr(signal, name)), id=name)
            for name in ("SIGKILL", "SIGTERM", "SIGHUP", "SIGPIPE", "SIGQUIT")
        ),
        pytest.param(report(code=0), id="exit code 0"),
        pytest.param(report(code=1), id="a start error"),
        pytest.param(report(code=128 + signal.SIGKILL), id="SIGKILL behind a shell"),
        pytest.param(report(), id="the start failed"),
    ],
)
def test_an_end_that_no_model_can_cause_does_not_count(of: ExitReport) -> None:
    assert not can_be_a_models_doing(of)
    assert suspect(ending(start(A), PANIC, of=of)) is None


def test_an_end_that_was_asked_for_does_not_count() -> None:
    of = replace(report(number=signal.SIGABRT), was_asked=True)

    assert suspect(ending(start(A), of=of)) is None


def test_exit_code_2_without_the_words_of_a_crash_does_not_count() -> None:
    assert suspect(ending(start(A))) is None


def test_a_crash_without_any_load_speaks_against_nobody() -> None:
    discovery = (
        'time=2026-11-29T23:33:19Z level=INFO source=server.go:433 msg="starting runner" '
        'cmd="/usr/bin/ollama runner --ollama-engine --port 41387"'
    )

    assert suspect(ending(discovery, PANIC)) is None


def test_a_start_line_inside_of_other_text_is_none() -> None:
    assert last_load([f"common_chat_peg_parse: unparsed peg-native output: {start(A)}"]) is None


def test_the_newer_start_line_with_a_local_offset_is_read() -> None:
    load = last_load([start(A, at="2026-11-30T00:33:19.500+01:00", program="llama-server")])

    assert load is not None
    assert (load.blob, load.at) == (A, AT - 0.5)


def test_one_that_is_being_loaded_goes_before_one_that_answers() -> None:
    assert suspect(ending(start(A), started(), start(B), PANIC, active=frozenset({A}))) == B


def test_where_the_lines_are_lost_the_runner_that_was_loading_is_the_suspect() -> None:
    of = Ending(report(number=signal.SIGSEGV), ("something",), loading=frozenset({A}))

    assert suspect(of) == A


def test_a_long_load_is_believed_while_its_runner_was_seen_loading() -> None:
    lines = (start(A, at="2026-11-29T23:30:00.000Z"), PANIC)  # 200 s before the death

    assert suspect(Ending(report(code=2), lines, loading=frozenset({A}))) == A


def test_a_load_whose_end_was_said_in_unknown_words_does_not_count_for_ever() -> None:
    assert suspect(ending(start(A, at="2026-11-29T23:30:00.000Z"), PANIC)) is None


def test_the_only_one_at_work_is_the_suspect_within_a_minute_of_its_load() -> None:
    lines = (start(A, at="2026-11-29T23:32:21.000Z"), started(), PANIC)  # 59 s before the death

    assert suspect(ending(*lines, active=frozenset({A}))) == A


@pytest.mark.parametrize(
    ("at", "active"),
    [
        pytest.param("2026-11-29T23:32:19.000Z", {A}, id="loaded 61 s before"),
        pytest.param("2026-11-29T23:33:00.000Z", {A, B}, id="another worked too"),
        pytest.param("2026-11-29T23:33:00.000Z", {B}, id="only another worked"),
        pytest.param("2026-11-29T23:33:00.000Z", set(), id="nobody worked"),
    ],
)
def test_a_loaded_model_is_no_suspect_when(at: str, active: set[str]) -> None:
    assert suspect(ending(start(A, at=at), started(), PANIC, active=frozenset(active))) is None


def note(book: CrashBook, died_mono: float, blob: str = A) -> Conviction | None:
    return book.note(ending(start(blob), PANIC), died_mono=died_mono)


def test_one_crash_convicts_nobody() -> None:
    assert note(CrashBook(), 1000.0) is None


def test_two_crashes_within_an_hour_convict_the_weights() -> None:
    book = CrashBook()
    note(book, 1000.0)

    found = note(book, 4600.0)  # 3600 s later

    assert found is not None
    assert (found.blob, found.crashes) == (A, 2)


def test_the_reason_names_the_times_and_the_ends() -> None:
    book = CrashBook()
    note(book, 1000.0)

    found = note(book, 1010.0)

    how = f"at 2026-11-29T23:33:20.000Z while it was being loaded (exit code 2, {PANIC})"
    assert found is not None
    assert found.reason_for(["copy:latest", "poison:latest"]) == (
        f"copy:latest, poison:latest made Ollama crash 2 times within an hour: {how} and {how}."
    )


def test_weights_that_the_store_does_not_know_are_named_by_their_digest() -> None:
    book = CrashBook()
    book.note(ending(start(A), PANIC), died_mono=1.0)

    found = book.note(ending(start(A), PANIC), died_mono=2.0)

    assert found is not None
    assert found.reason_for([]).startswith("A model of unknown name (sha256:aaaaaaaaaaaa…) made")


def test_two_crashes_further_apart_than_an_hour_convict_nobody() -> None:
    book = CrashBook()
    note(book, 1000.0)

    assert note(book, 4601.0) is None


def test_crashes_of_two_models_do_not_add_up() -> None:
    book = CrashBook()
    note(book, 1000.0, A)

    assert note(book, 1010.0, B) is None


def run_well(book: CrashBook, blob: str, *, from_mono: float, for_s: float, step_s: float = 2.0) -> None:
    for n in range(int(for_s / step_s) + 1):
        book.saw_loaded({blob}, now_mono=from_mono + n * step_s)


def test_a_good_run_of_ten_minutes_in_between_clears_a_model() -> None:
    book = CrashBook()
    note(book, 1000.0)
    run_well(book, A, from_mono=1010.0, for_s=600.0)

    assert note(book, 2000.0) is None


def test_a_shorter_run_in_between_does_not_clear_it() -> None:
    book = CrashBook()
    note(book, 1000.0)
    run_well(book, A, from_mono=1010.0, for_s=598.0)

    assert note(book, 2000.0) is not None


def test_a_run_that_was_interrupted_begins_anew() -> None:
    book = CrashBook()
    note(book, 1000.0)
    run_well(book, A, from_mono=1010.0, for_s=400.0)
    book.saw_loaded((), now_mono=1412.0)
    run_well(book, A, from_mono=1414.0, for_s=400.0)

    assert note(book, 2000.0) is not None


def test_a_pause_of_the_box_is_no_good_run() -> None:
    book = CrashBook()
    note(book, 1000.0)
    book.saw_loaded({A}, now_mono=1010.0)
    book.saw_loaded({A}, now_mono=2010.0)

    assert note(book, 2020.0) is not None


def test_a_convicted_one_needs_two_new_crashes() -> None:
    book = CrashBook()
    note(book, 1000.0)
    note(book, 1010.0)

    assert note(book, 1020.0) is None


def test_an_end_that_no_model_caused_is_not_counted_between_two_that_one_did() -> None:
    book = CrashBook()
    note(book, 1000.0)
    book.note(ending(start(A), of=report(number=signal.SIGKILL)), died_mono=1005.0)

    found = note(book, 1010.0)

    assert found is not None
    assert found.crashes == 2
