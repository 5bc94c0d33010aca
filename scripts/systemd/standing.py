"""How the service will stand on this box: as whom, with which settings, writing where. Pure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from scripts.systemd.places import (
    ENGINE_USER,
    HOMES,
    LOG_FOLDER,
    LOG_LINK,
    OWN_USER,
    STATE_DIR,
    is_below,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scripts.systemd.box import Box

NOT_TAKEN_OVER = frozenset({"PATH", "USER", "LOGNAME", "SHELL"})


def service_user(box: Box) -> str:
    """Whom an earlier install chose; else the user of Ollama's own service, where the models are its own; else ours."""
    if box.is_installed and box.record and box.record.user in box.homes:
        return box.record.user
    user = engine_user(box)
    is_owner = user in box.homes and box.owners.get(engine_store(box)) == user
    return user if is_owner and user != "root" else OWN_USER


def engine_user(box: Box) -> str:
    """As whom Ollama runs without us."""
    return box.ollama.user if box.ollama.is_known else ENGINE_USER


def known_settings(box: Box) -> Mapping[str, str]:
    """What the person has said so far: to us, else to Ollama's own service."""
    return box.settings if box.settings is not None else box.ollama.environment


def engine_store(box: Box) -> Path:
    """Where Ollama keeps its models without us."""
    settings = known_settings(box)
    home = _absolute(settings.get("HOME")) or box.homes.get(engine_user(box), Path("/"))
    return _absolute(settings.get("OLLAMA_MODELS")) or home / ".ollama" / "models"


def home_of(box: Box, user: str) -> Path:
    """The service's HOME."""
    return _absolute(settings_to_be(box, user).get("HOME")) or box.homes.get(user, STATE_DIR)


def folders_to_open(box: Box, user: str) -> tuple[Path, ...]:
    """Where the service must be able to write, beyond what its unit gives it anyway."""
    home = home_of(box, user)
    settings = settings_to_be(box, user)
    wanted = [home / ".ollama" if is_below(home, HOMES) else home] if home != STATE_DIR else []
    if models := _absolute(settings.get("OLLAMA_MODELS")):
        wanted.append(models)
    if state := _absolute(settings.get("ARASUL_STATE_DIR")):
        wanted.append(state)
    if log := log_folder(box, user):
        wanted.append(log)
    linked = [
        box.resolved.get(path, path) for path in (home / ".ollama", home / ".ollama" / "models", *wanted)
    ]
    given = (STATE_DIR, LOG_FOLDER)
    opened: list[Path] = []
    for path in (*wanted, *linked):
        if not is_below(path, (*given, *opened)):
            opened.append(path)
    return tuple(opened)


def log_folder(box: Box, user: str) -> Path | None:
    """The folder of a log that a person moved. The documented path is a link of ours, to where it lies anyway."""
    log = _absolute(settings_to_be(box, user).get("ARASUL_LOG_FILE"))
    return None if log is None or (log == LOG_LINK and box.log_link_is_free) else log.parent


def taken_over(box: Box, user: str) -> dict[str, str]:
    """What a person set for Ollama's own service, and we carry on; its HOME only for its own user."""
    left = NOT_TAKEN_OVER if user == engine_user(box) else NOT_TAKEN_OVER | {"HOME"}
    return {name: value for name, value in box.ollama.environment.items() if name not in left}


def settings_to_be(box: Box, user: str) -> Mapping[str, str]:
    """The environment file's variables, as they will be after the install."""
    return box.settings if box.settings is not None else taken_over(box, user)


def _absolute(value: str | None) -> Path | None:
    text = (value or "").strip()
    return Path(text) if text.startswith("/") else None
