"""Guards that figures read as people expect, and that what is unknown is said to be unknown."""

from __future__ import annotations

import pytest

from arasul_supervisor.cli.output import duration_text, field, instant_text, size_text


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        pytest.param(0, "0 B", id="nothing"),
        pytest.param(999, "999 B", id="below a kilobyte"),
        pytest.param(4_661_224_676, "4.7 GB", id="as ollama list shows it"),
        pytest.param(999_999, "1.0 MB", id="never 1000 kB"),
        pytest.param(99_960_000_000, "100 GB", id="no decimal from a hundred on"),
        pytest.param(5_000_000_000_000_000, "5000 TB", id="beyond the last unit"),
        pytest.param(None, "unknown", id="null"),
    ],
)
def test_a_size_is_shown_in_decimal_units(size_bytes: object, text: str) -> None:
    assert size_text(size_bytes) == text


@pytest.mark.parametrize(
    ("duration_s", "text"),
    [
        pytest.param(0, "0 s", id="nothing"),
        pytest.param(59.9, "59 s", id="under a minute"),
        pytest.param(60, "1 min 0 s", id="a minute"),
        pytest.param(11_520, "3 h 12 min", id="hours"),  # 3 * 3600 + 12 * 60
        pytest.param(183_600, "2 d 3 h", id="days"),  # 2 * 86400 + 3 * 3600
        pytest.param(None, "unknown", id="null"),
    ],
)
def test_a_duration_is_shown_in_its_two_largest_units(duration_s: object, text: str) -> None:
    assert duration_text(duration_s) == text


@pytest.mark.parametrize(
    ("instant", "text"),
    [
        pytest.param("2026-11-23T15:04:05Z", "2026-11-23 15:04:05 UTC", id="UTC"),
        pytest.param(
            "2026-11-23T15:04:05.277302595-07:00", "2026-11-23 15:04:05 -07:00", id="with an offset"
        ),
        pytest.param("soon", "unknown", id="no instant"),
        pytest.param(None, "unknown", id="null"),
    ],
)
def test_an_instant_is_shown_without_its_fraction(instant: object, text: str) -> None:
    assert instant_text(instant) == text


@pytest.mark.parametrize(
    ("body", "text"),
    [
        pytest.param({"pid": 12}, "12", id="a number"),
        pytest.param({"pid": 0}, "0", id="zero is known"),
        pytest.param({"pid": None}, "unknown", id="null"),
        pytest.param({}, "unknown", id="missing"),
    ],
)
def test_a_field_that_is_null_or_missing_is_unknown(body: dict[str, object], text: str) -> None:
    assert field(body, "pid") == text
