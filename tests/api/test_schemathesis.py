"""CONTRACT §4, `/openapi.json`: the document tells the truth, as a tool sees it that knows nothing but the document."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.engine.daemon import DaemonFactory

PROGRAM = Path(sys.executable).with_name("st")
RUN_LIMIT_S = 150
# 503 and 504 are true answers here. Of DELETE the name may stand in the query or in the body, and one instant in
# some thousands names a day that does not exist: no schema can tell that.
CONFIG = """
[checks]
not_a_server_error.enabled = false

[[operations]]
include-path = "/api/models/delete"
checks.positive_data_acceptance.enabled = false

[[operations]]
include-path = "/api/logs"
checks.positive_data_acceptance.enabled = false
"""


@pytest.mark.skipif(not PROGRAM.exists(), reason="schemathesis is not installed: pip install -e .[dev]")
def test_the_document_is_true(daemon: DaemonFactory, tmp_path: Path) -> None:
    subject = daemon().wait_ready()
    config = tmp_path / "schemathesis.toml"
    config.write_text(CONFIG)

    run = subprocess.run(
        [
            str(PROGRAM),
            "--config-file",
            str(config),
            "run",
            f"{subject.url}/openapi.json",
            "--phases=coverage,fuzzing",
            "--max-examples=20",
            "--max-time=12",
            "--request-timeout=15",
            "--exclude-path=/api/process/stop",  # or the others would meet no engine
            "--seed=1",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=RUN_LIMIT_S,
    )

    assert run.returncode == 0, run.stdout[-20_000:] + run.stderr
    assert "request_failed_unexpectedly" not in subject.log_text()
    assert subject.get("/livez").status == 200
