"""Guards what `pull` prints into a log or a pipe."""

from __future__ import annotations

import pytest

from arasul_supervisor.cli.job_words import figures_of, layer_of
from arasul_supervisor.cli.pull_progress import JsonProgress, PlainProgress


def test_a_status_is_printed_once_and_a_layer_at_each_tenth(capsys: pytest.CaptureFixture[str]) -> None:
    progress = PlainProgress()
    layer = {"status": "pulling 3f8eb4da87fa", "digest": "sha256:3f8eb4da87fa", "total": 2000}

    progress.show({"status": "pulling manifest"})
    progress.show({"status": "pulling manifest"})
    progress.show({**layer, "completed": 100})  # 5 % is in the first tenth
    progress.show({**layer, "completed": 199})
    progress.show({**layer, "completed": 1000})
    progress.show({**layer, "completed": 2000})
    progress.show({"status": "success"})

    assert capsys.readouterr().out.splitlines() == [
        "pulling manifest",
        "pulling 3f8eb4da87fa: 0 % of 2.0 kB",
        "pulling 3f8eb4da87fa: 50 % of 2.0 kB",
        "pulling 3f8eb4da87fa: 100 % of 2.0 kB",
        "success",
    ]


@pytest.mark.parametrize(
    ("line", "layer"),
    [
        pytest.param({"total": 10, "completed": 4}, (4, 10), id="under way"),
        pytest.param({"total": 10}, (0, 10), id="not begun"),
        pytest.param({"total": 10, "completed": 11}, (10, 10), id="never beyond the end"),
        pytest.param({"total": 0, "completed": 0}, None, id="an empty layer is no bar"),
        pytest.param({"total": "10"}, None, id="no number"),
        pytest.param({"status": "success"}, None, id="a status"),
    ],
)
def test_a_layer_is_told_from_a_status(line: dict[str, object], layer: tuple[int, int] | None) -> None:
    assert layer_of(line) == layer


JOB = {"state": "running", "attempt": 1, "layer": 1, "layers": 2, "total": 4000, "completed": 0}


def test_where_the_whole_is_known_its_tenths_are_printed_with_speed_and_time_left(
    capsys: pytest.CaptureFixture[str],
) -> None:
    progress = PlainProgress()
    large = {"status": "pulling 3f8eb4da87fa", "digest": "sha256:3f8e", "total": 3600}
    small = {"status": "pulling ae370d884f10", "digest": "sha256:ae37", "total": 400}

    progress.show({**large, "completed": 399, "job": {**JOB, "completed": 399}})
    progress.show({**large, "completed": 500, "job": {**JOB, "completed": 500, "speed_bytes_per_s": 2e6}})
    pace = {"speed_bytes_per_s": 2e6, "eta_s": 200.0}
    progress.show({**large, "completed": 3600, "job": {**JOB, "completed": 3600, **pace}})
    progress.show({**small, "completed": 390, "job": {**JOB, "completed": 3990, "layer": 2}})

    assert capsys.readouterr().out.splitlines() == [
        "pulling 3f8eb4da87fa: 0 % of 4.0 kB, layer 1 of 2",
        "pulling 3f8eb4da87fa: 10 % of 4.0 kB, 2.0 MB/s, layer 1 of 2",
        "pulling 3f8eb4da87fa: 90 % of 4.0 kB, 2.0 MB/s, 3 min 20 s left, layer 1 of 2",
    ]


def test_a_setback_is_a_line_with_its_reason_and_the_next_attempt_one_with_its_true_figure(
    capsys: pytest.CaptureFixture[str],
) -> None:
    progress = PlainProgress()
    reason = "The registry said 503."

    progress.show({"status": "waiting to retry", "reason": reason, "retry_in_s": 4.0, "job": JOB})
    progress.show({"status": "resuming", "reason": reason, "attempt": 2, "total": 4000, "completed": 1200})

    assert capsys.readouterr().out.splitlines() == [
        "waiting to retry in 4 s: The registry said 503.",
        "resuming: attempt 2, 30 % of 4.0 kB",
    ]


def test_the_same_setback_for_the_second_time_is_printed_again_when_it_was_resumed_between(
    capsys: pytest.CaptureFixture[str],
) -> None:
    progress = PlainProgress()
    retry = {"status": "waiting to retry", "reason": "No.", "retry_in_s": 4.0}

    progress.show(retry)
    progress.show(retry)
    progress.show({"status": "resuming", "attempt": 2})
    progress.show(retry)

    assert capsys.readouterr().out.splitlines() == [
        "waiting to retry in 4 s: No.",
        "resuming: attempt 2",
        "waiting to retry in 4 s: No.",
    ]


def test_an_older_daemon_gives_its_reason_when_it_resumes(capsys: pytest.CaptureFixture[str]) -> None:
    PlainProgress().show({"status": "resuming", "reason": "The registry said 503."})

    assert capsys.readouterr().out == "resuming: The registry said 503.\n"


def test_what_a_terminal_would_obey_is_written_out(capsys: pytest.CaptureFixture[str]) -> None:
    PlainProgress().show({"status": "pulling \x1b[2J"})

    assert capsys.readouterr().out == "pulling \\x1b[2J\n"


def test_a_job_is_printed_at_its_tenths_while_it_runs_and_by_its_state_before(
    capsys: pytest.CaptureFixture[str],
) -> None:
    progress = PlainProgress()

    progress.show_job({"state": "queued", "total": None})
    progress.show_job({**JOB, "status": "verifying sha256-3f8e", "completed": 1000, "layer": "sha256:3f8e"})
    progress.show_job({**JOB, "status": "verifying sha256-3f8e", "completed": 1001, "layer_number": 1})

    assert capsys.readouterr().out.splitlines() == [
        "queued",
        "verifying sha256-3f8e: 20 % of 4.0 kB",
    ]


def test_a_job_in_json_is_printed_when_it_changed(capsys: pytest.CaptureFixture[str]) -> None:
    progress = JsonProgress()

    for completed in (1, 1, 2):
        progress.show_job({"completed": completed})

    assert capsys.readouterr().out.splitlines() == ['{"completed": 1}', '{"completed": 2}']


@pytest.mark.parametrize("strange", [None, "x", -1, True, {}, float("nan")], ids=repr)
def test_figures_survive_a_job_of_any_shape(strange: object) -> None:
    figures = figures_of(dict.fromkeys((*JOB, "speed_bytes_per_s", "eta_s"), strange))

    assert figures.percent is None
