"""How the service will stand on this box: as whom, with which settings, writing where. Pure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from scripts.systemd.places import ENGINE_USER, LOG_FOLDER, OWN_USER, STATE_DIR, is_below

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scripts.systemd.box import Box

NOT_TAKEN_OVER = frozenset({"PATH", "HOME", "USER", "LOGNAME", "SHELL"})


def service_user(box: Box) -> str:
    """`ollama` where Ollama's installer has made it and the models are its own; else our own."""
    home = box.homes.get(ENGINE_USER)
    if home is None:
        return OWN_USER
    named = settings_to_be(box).get("OLLAMA_MODELS", "").strip()
    store = Path(named) if named else home / ".ollama" / "models"
    return ENGINE_USER if box.owners.get(store) == ENGINE_USER else OWN_USER


def folders_to_open(box: Box, user: str) -> tuple[Path, ...]:
    """Where the service must be able to write, beyond what its unit gives it anyway."""
    home = box.homes.get(user, STATE_DIR)
    settings = settings_to_be(box)
    wanted = [home] if home != STATE_DIR else []
    if models := _absolute(settings.get("OLLAMA_MODELS")):
        wanted.append(models)
    if state := _absolute(settings.get("ARASUL_STATE_DIR")):
        wanted.append(state)
    if log := _absolute(settings.get("ARASUL_LOG_FILE")):
        wanted.append(log.parent)
    linked = [
        box.resolved.get(path, path) for path in (home / ".ollama", home / ".ollama" / "models", *wanted)
    ]
    given = (STATE_DIR, LOG_FOLDER)
    opened: list[Path] = []
    for path in (*wanted, *linked):
        if not is_below(path, (*given, *opened)):
            opened.append(path)
    return tuple(opened)


def taken_over(box: Box) -> dict[str, str]:
    """What a person set for Ollama's own service, and we carry on."""
    return {name: value for name, value in box.ollama.environment.items() if name not in NOT_TAKEN_OVER}


def settings_to_be(box: Box) -> Mapping[str, str]:
    """The environment file's variables, as they will be after the install."""
    return box.settings if box.settings is not None else taken_over(box)


def _absolute(value: str | None) -> Path | None:
    text = (value or "").strip()
    return Path(text) if text.startswith("/") else None
