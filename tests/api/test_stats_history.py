"""CONTRACT §4, `/api/stats/history`: the last minutes from memory, oldest first."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from arasul_supervisor.telemetry.history import Sample
from tests.api.raw import ask
from tests.api.stubs import api_under_test

if TYPE_CHECKING:
    from arasul_supervisor.telemetry.history import History

NO_ENGINE = 1
BOUND_S = 0.1


def fill(history: History, n_samples: int) -> None:
    """One sample every five seconds until now, each stamped with its number."""
    now_mono = time.monotonic()
    for number in range(n_samples):
        sample = Sample(float(number), 50.0, 17557.0, 51.5, 3.5, 812.0, 24.5, None)
        history.add(sample, taken_mono=now_mono - 5.0 * (n_samples - 1 - number))


async def test_the_history_is_told_oldest_first_within_its_bound() -> None:
    async with api_under_test(NO_ENGINE) as api:
        fill(api.sampler.history, 100)
        await ask(api.port, "GET", "/api/stats/history")
        began = time.monotonic()
        answer = await ask(api.port, "GET", "/api/stats/history?minutes=15")
        took_s = time.monotonic() - began

    body = answer.json()
    assert (answer.status, body["period_s"]) == (200, 5.0)
    assert [sample["timestamp"] for sample in body["samples"]] == list(range(100))
    assert body["samples"][0] == {
        "timestamp": 0.0,
        "gpu_utilization": 50.0,
        "gpu_memory": 17557.0,
        "gpu_temperature": 51.5,
        "cpu_percent": 3.5,
        "process_memory_mb": 812.0,
        "memory_used_percent": 24.5,
        "power_watts": None,
    }
    assert took_s < BOUND_S * 5  # a busy machine; what it costs is measured in bench/


@pytest.mark.parametrize(("query", "n_samples"), [("", 100), ("?minutes=", 100), ("?minutes=0.45", 6)])
async def test_as_many_minutes_are_told_as_are_asked_for(query: str, n_samples: int) -> None:
    async with api_under_test(NO_ENGINE) as api:
        fill(api.sampler.history, 100)
        answer = await ask(api.port, "GET", f"/api/stats/history{query}")

    assert len(answer.json()["samples"]) == n_samples  # of 27 s: those 0, 5, … 25 s old


@pytest.mark.parametrize("minutes", ["0", "-1", "15.01", "nan", "inf", "five", "null", "1&minutes=2"])
async def test_a_span_that_is_none_is_told_to_be_wrong(minutes: str) -> None:
    async with api_under_test(NO_ENGINE) as api:
        answer = await ask(api.port, "GET", f"/api/stats/history?minutes={minutes}")

    assert (answer.status, answer.json()["code"]) == (400, "bad_input")
    assert "minutes" in answer.json()["error"]


async def test_before_the_first_sample_the_history_is_empty() -> None:
    async with api_under_test(NO_ENGINE) as api:
        answer = await ask(api.port, "GET", "/api/stats/history")

    assert (answer.status, answer.json()) == (200, {"period_s": 5.0, "samples": []})


async def test_the_history_stands_in_the_document_of_the_api() -> None:
    async with api_under_test(NO_ENGINE) as api:
        document = (await ask(api.port, "GET", "/openapi.json")).json()

    (minutes,) = document["paths"]["/api/stats/history"]["get"]["parameters"]
    assert (minutes["name"], minutes["schema"]["exclusiveMinimum"], minutes["schema"]["maximum"]) == (
        "minutes",
        0,
        15,
    )
