"""Guards CONTRACT §4 verify and repair: bytes, speed and time left of a check."""

from __future__ import annotations

import pytest

from arasul_supervisor.model_store.manifests import Layer
from arasul_supervisor.ollama.checks.progress import CheckProgress

FIRST, SECOND = (Layer(f"sha256:{letter * 64}", 1000, "model") for letter in "ab")


def test_before_the_blobs_are_known_there_is_no_total() -> None:
    assert CheckProgress().total_bytes is None


def test_the_bytes_of_a_blob_count_while_it_is_read() -> None:
    progress = CheckProgress()
    progress.expect([FIRST, SECOND])
    progress.begin(FIRST, 0.0)
    progress.end(1.0)
    progress.begin(SECOND, 1.0)
    progress.note(300, 1.5)

    assert (progress.completed_bytes, progress.total_bytes) == (1300, 2000)
    assert (progress.layer, progress.n_begun, progress.n_layers) == (SECOND, 2, 2)


def test_a_blob_that_is_missing_counts_as_looked_at() -> None:
    progress = CheckProgress()
    progress.expect([FIRST])
    progress.begin(FIRST, 0.0)
    progress.end(0.0)

    assert progress.completed_bytes == progress.total_bytes == 1000


def test_a_second_look_adds_to_the_total() -> None:
    progress = CheckProgress()
    progress.expect([FIRST, SECOND])
    progress.expect([FIRST])

    assert (progress.total_bytes, progress.n_layers) == (3000, 3)


def test_speed_and_time_left_are_those_of_what_was_read() -> None:
    progress = CheckProgress()
    progress.expect([FIRST, SECOND])
    progress.begin(FIRST, 0.0)  # missing: nothing is read
    progress.end(0.0)
    progress.begin(SECOND, 0.0)
    progress.note(500, 2.0)

    assert progress.speed_bytes_per_s(2.0) == pytest.approx(250)  # 500 bytes in 2 s
    assert progress.eta_s(2.0) == pytest.approx(2)  # 500 bytes left


def test_no_speed_is_told_before_half_a_second_was_seen() -> None:
    progress = CheckProgress()
    progress.expect([FIRST])
    progress.begin(FIRST, 0.0)
    progress.note(500, 0.4)

    assert (progress.speed_bytes_per_s(0.4), progress.eta_s(0.4)) == (None, None)


def test_a_disk_that_stands_still_is_slow_within_ten_seconds() -> None:
    progress = CheckProgress()
    progress.expect([FIRST])
    progress.begin(FIRST, 0.0)
    progress.note(900, 1.0)

    assert progress.speed_bytes_per_s(11.0) == 0
