"""Guards `models`: what is installed with the bytes that are its own, and what is broken by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from arasul_supervisor.cli import main
from tests.integration.cli_daemon import daemon as daemon

if TYPE_CHECKING:
    from tests.integration.cli_daemon import DaemonDouble

TINY: Final = {"name": "tiny:latest", "size": 1_000_000, "quantization": "F32", "family": "llama"}
BROKEN: Final = [{"name": "half:latest", "reason": "Its manifest is empty; pull it again."}]


def test_the_bytes_that_are_a_models_own_are_told_from_its_size(
    daemon: DaemonDouble, capsys: pytest.CaptureFixture[str]
) -> None:
    own = {**TINY, "disk_bytes": {"own": 2000, "shared": 998_000}}
    unknown = {**TINY, "name": "other:latest", "disk_bytes": None}
    daemon.says("GET", "/api/models", {"models": [own, unknown]})
    daemon.says("GET", "/api/models/loaded", {"loaded_models": []})

    assert main(["models"]) == 0
    assert [line.split()[:6] for line in capsys.readouterr().out.splitlines()] == [
        ["NAME", "SIZE", "OWN", "QUANTIZATION", "FAMILY", "MODIFIED"],
        ["tiny:latest", "1.0", "MB", "2.0", "kB", "F32"],
        ["other:latest", "1.0", "MB", "unknown", "F32", "llama"],
    ]


@pytest.mark.parametrize("models", [[TINY], []], ids=["beside others", "nothing else is installed"])
def test_broken_models_are_named_below(
    models: list[object], daemon: DaemonDouble, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.says("GET", "/api/models", {"models": models, "broken": BROKEN})
    daemon.says("GET", "/api/models/loaded", {"loaded_models": []})

    assert main(["models"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "broken: half:latest: Its manifest is empty; pull it again."
