"""Guards what `pull` prints into a log or a pipe."""

from __future__ import annotations

import pytest

from arasul_supervisor.cli.pull_progress import PlainProgress, layer_of


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
