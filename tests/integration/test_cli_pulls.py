"""Guards `pulls`: every job of the daemon with its figures, and what went wrong with it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from arasul_supervisor.cli import main
from tests.integration.cli_daemon import daemon as daemon

if TYPE_CHECKING:
    import pytest

    from tests.integration.cli_daemon import DaemonDouble

RUNNING: Final = {
    "id": "p7",
    "kind": "pull",
    "model": "qwen3:14b-q8",
    "state": "running",
    "total": 15_700_000_000,
    "completed": 4_710_000_000,
    "speed_bytes_per_s": 12_300_000.0,
    "eta_s": 893.0,
    "attempts": 2,
    "error": None,
}
RETRYING: Final = {
    **RUNNING,
    "id": "p8",
    "model": "tiny",
    "state": "retrying",
    "total": None,
    "completed": 0,
    "speed_bytes_per_s": None,
    "eta_s": None,
    "error": "The registry said 503.",
}
VERIFIED: Final = {
    "id": "v9",
    "kind": "verify",
    "model": None,
    "state": "done",
    "total": 1000,
    "completed": 1000,
    "attempts": 0,
    "broken": [{"name": "tiny:latest", "reason": "Its weights are not what they were."}],
}


def _lines(capsys: pytest.CaptureFixture[str]) -> list[list[str]]:
    return [line.split() for line in capsys.readouterr().out.splitlines()]


def test_the_jobs_are_a_table_with_what_went_wrong_below(
    daemon: DaemonDouble, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.says("GET", "/api/models/pulls", {"pulls": [RUNNING, RETRYING, VERIFIED]})

    assert main(["pulls"]) == 0
    assert [" ".join(words) for words in _lines(capsys)] == [
        "ID KIND MODEL STATE DONE BYTES SPEED LEFT ATTEMPTS",
        "p7 pull qwen3:14b-q8 running 30 % 4.7 GB of 15.7 GB 12.3 MB/s 14 min 53 s 2",
        "p8 pull tiny retrying 2",
        "v9 verify all done 100 % 1.0 kB of 1.0 kB",
        "p8: The registry said 503.",
        "v9: tiny:latest: Its weights are not what they were.",
    ]


def test_no_job_is_a_sentence(daemon: DaemonDouble, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.says("GET", "/api/models/pulls", {"pulls": []})

    assert main(["pulls"]) == 0
    assert "`arasul-supervisor pull` begins one" in capsys.readouterr().out


def test_the_jobs_in_json_are_the_daemons_answer(
    daemon: DaemonDouble, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.says("GET", "/api/models/pulls", {"pulls": [RUNNING]})

    assert main(["--json", "pulls"]) == 0
    assert json.loads(capsys.readouterr().out) == {"pulls": [RUNNING]}


def test_nearly_all_is_not_all(daemon: DaemonDouble, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.says("GET", "/api/models/pulls", {"pulls": [{**RUNNING, "completed": 15_699_999_999}]})

    assert main(["pulls"]) == 0
    assert " 99 %" in capsys.readouterr().out
