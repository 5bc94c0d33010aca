"""Boxes of all kinds for the install step to decide about."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.systemd.actions import Run, Write
from scripts.systemd.box import Box, OllamaService, Python
from scripts.systemd.places import Prefix
from scripts.systemd.plan import Wishes

if TYPE_CHECKING:
    from scripts.systemd.actions import Plan

PYTHON = Python(Path("/usr/bin/python3.11"), (3, 11), has_venv=True)
PLAIN = Box(
    pythons=(PYTHON,),
    homes={},
    groups=frozenset({"video", "render"}),
    ollama=OllamaService(),
    engine=Path("/usr/local/bin/ollama"),
    path="/usr/local/bin:/usr/bin",
    settings=None,
    resolved={},
    owners={},
    has_nvidia_modprobe=False,
    log_link_is_free=True,
    command_link_is_free=True,
    is_installed=False,
    is_running=False,
    installed_below=None,
    is_prefix_taken=False,
    record=None,
)
OLLAMA_HOME = Path("/usr/share/ollama")
OFFICIAL = replace(
    PLAIN,
    homes={"ollama": OLLAMA_HOME},
    owners={OLLAMA_HOME / ".ollama/models": "ollama"},
    ollama=OllamaService(
        is_known=True, is_enabled=True, is_active=True, user="ollama", environment={"PATH": "/bin"}
    ),
)
PREFIX = Prefix(Path("/opt/arasul-supervisor"))
WISHES = Wishes(
    prefix=PREFIX,
    source=Path("/src"),
    venv_name="now",
    unit="ExecStart=/opt/arasul-supervisor/current/bin/arasul-supervisor run\n",
    env_file="#LLM_MODEL=\n",
)


def with_settings(box: Box, **settings: str) -> Box:
    return replace(box, settings=settings)


def written(plan: Plan, path: Path) -> str:
    return next(action.text for action in plan.actions if isinstance(action, Write) and action.path == path)


def commands(plan: Plan) -> list[tuple[str, ...]]:
    return [action.command for action in plan.actions if isinstance(action, Run)]
