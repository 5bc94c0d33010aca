"""Guards the claim that the log tells outcomes, not words: whatever people do on an ordinary day is no error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.engine.ordinary_use import ENVIRONMENT, Day, install_models, live_a_day
from tests.engine.ordinary_user import Scene
from tests.engine.tiny_gguf import Shape

if TYPE_CHECKING:
    import random
    from pathlib import Path

    from tests.engine.registry import Registry
    from tests.engine.store import ModelFiles

ORDINARY_SHARE = 0.4  # 0.6 seen: the rest are aborts, mistakes, and requests that met the operator's stops
DEBUG = {"OLLAMA_DEBUG": "1"}


@pytest.mark.parametrize(
    ("day", "env"),
    [
        pytest.param(
            Day(12, pause_s=0.05, switch_every_s=6, has_stalls=False),
            DEBUG,  # every line of the default level, and more
            id="a_quarter_of_a_minute_of_OLLAMA_DEBUG",
        ),
        pytest.param(
            Day(3600, pause_s=2.0, switch_every_s=60),
            {},
            id="an_hour",
            marks=(pytest.mark.long, pytest.mark.timeout(4500)),
        ),
        pytest.param(
            Day(600, pause_s=0.5, switch_every_s=30),
            DEBUG,
            id="ten_minutes_of_OLLAMA_DEBUG",
            marks=pytest.mark.long,
        ),
    ],
)
def test_ordinary_use_is_never_taken_for_an_error(
    real_daemon: Any,
    tiny_model_store: Path,
    model_files: ModelFiles,
    registry: Registry,
    rng: random.Random,
    tmp_path: Path,
    day: Day,
    env: dict[str, str],
) -> None:
    install_models(tiny_model_store, model_files)
    running = real_daemon({**ENVIRONMENT, **env})
    spare = model_files(Shape(seed=6)).read_bytes()

    seen = live_a_day(Scene(running, registry, tmp_path, spare), rng, day)

    share = seen.share_answered
    print(seen.report())
    assert share > ORDINARY_SHARE
    assert (seen.flagged, seen.sick, seen.own_warnings, seen.n_missed_lines) == ([], [], [], 0)
