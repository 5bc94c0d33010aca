"""What is on this box, as one value. Looks only; changes nothing."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.systemd.errors import CannotInstall
from scripts.systemd.places import (
    COMMAND_LINK,
    ENGINE_USER,
    ENV_FILE,
    GPU_GROUPS,
    LOG_FILE,
    LOG_LINK,
    NVIDIA_MODPROBE,
    OWN_USER,
    UNIT,
    UNIT_FILE,
    Prefix,
)
from scripts.systemd.reading import Record, parse_shown_environment, read_record, read_settings
from scripts.systemd.unit_text import prefix_of_unit

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"
_LIMIT_S = 30.0


@dataclass(frozen=True)
class Python:
    """An interpreter that could carry the service."""

    path: Path
    version: tuple[int, int]
    has_venv: bool


@dataclass(frozen=True)
class OllamaService:
    """Ollama's own service, as far as systemd knows it."""

    is_known: bool = False
    is_enabled: bool = False
    is_active: bool = False
    user: str = "root"
    environment: Mapping[str, str] = field(default_factory=dict)
    environment_files: tuple[str, ...] = ()


@dataclass(frozen=True)
class Box:
    """All that a decision needs to know. Paths are resolved where a link would mislead systemd."""

    pythons: tuple[Python, ...]
    homes: Mapping[str, Path]  # of the users that may carry the service, where they exist
    groups: frozenset[str]  # of the GPU's groups those that exist
    ollama: OllamaService
    engine: Path | None
    path: str  # PATH of a service, unless the settings have one
    settings: Mapping[str, str] | None  # the environment file; None where there is none
    resolved: Mapping[Path, Path]  # where what is named really lies
    owners: Mapping[Path, str]  # of the folders that are there
    has_nvidia_modprobe: bool
    log_link_is_free: bool
    command_link_is_free: bool
    is_installed: bool
    is_running: bool
    installed_below: Path | None
    is_prefix_taken: bool  # something that is not ours lies there
    record: Record | None


def look(prefix: Prefix) -> Box:
    """Look around, for an install below that prefix.

    :raises CannotInstall: something cannot be read
    """
    settings = read_settings(ENV_FILE)
    record = read_record(prefix.record)
    ollama = _look_at_ollama_service()
    names = {ENGINE_USER, OWN_USER, ollama.user, record.user if record else OWN_USER}
    homes = {name: Path(entry.pw_dir) for name in names if (entry := _user(name))}
    known = settings if settings is not None else ollama.environment
    path = _service_path()
    engine = _find_engine(settings or {}, path)
    folders = _candidates(known, homes.values())
    resolved = {
        each: Path(os.path.realpath(each))
        for each in (*folders, prefix.folder, *([engine] if engine else []))
    }
    return Box(
        pythons=tuple(_pythons()),
        homes=homes,
        groups=frozenset(name for name in GPU_GROUPS if _group_exists(name)),
        ollama=ollama,
        engine=engine,
        path=path,
        settings=settings,
        resolved=resolved,
        owners={
            each: owner for each in (*folders, *resolved.values()) if (owner := _owner(each)) is not None
        },
        has_nvidia_modprobe=NVIDIA_MODPROBE.exists(),
        log_link_is_free=_is_free(LOG_LINK, LOG_FILE),
        command_link_is_free=_is_free(COMMAND_LINK, prefix.command),
        is_installed=UNIT_FILE.exists(),
        is_running=_output(["systemctl", "is-active", UNIT]) == "active\n",
        installed_below=installed_prefix(),
        is_prefix_taken=record is None and _is_occupied(prefix.folder),
        record=record,
    )


def installed_prefix() -> Path | None:
    """The folder below which the installed unit starts its program."""
    try:
        folder = prefix_of_unit(UNIT_FILE.read_text(encoding="utf-8", errors="replace"))
    except FileNotFoundError:
        return None
    return Path(folder) if folder else None


def _look_at_ollama_service() -> OllamaService:
    wanted = "LoadState,UnitFileState,ActiveState,User,Environment,EnvironmentFiles"
    shown = _output(["systemctl", "show", "ollama.service", f"--property={wanted}"])
    lines = [line.partition("=") for line in shown.splitlines()]
    properties = {name: value for name, _, value in lines}
    if properties.get("LoadState") != "loaded":
        return OllamaService()
    return OllamaService(
        is_known=True,
        is_enabled=properties["UnitFileState"] in ("enabled", "enabled-runtime"),
        is_active=properties["ActiveState"] in ("active", "activating", "reloading"),
        user=properties.get("User") or "root",
        environment=parse_shown_environment(properties.get("Environment", "")),
        environment_files=tuple(
            value.partition(" (")[0] for name, _, value in lines if name == "EnvironmentFiles"
        ),
    )


def _pythons() -> Iterable[Python]:
    """The one that runs this, then the system's."""
    seen = set()
    for name in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        path = Path(os.path.realpath(name))
        if path in seen or not os.access(path, os.X_OK):
            continue
        seen.add(path)
        version = _output([str(path), "-c", "import sys; print(*sys.version_info[:2])"]).split()
        if len(version) == 2:
            has_venv = _output([str(path), "-c", "import venv, ensurepip; print(1)"]) == "1\n"
            yield Python(path, (int(version[0]), int(version[1])), has_venv)


def _service_path() -> str:
    for line in _output(["systemctl", "show-environment"]).splitlines():
        if line.startswith("PATH="):
            return line.partition("=")[2]
    return DEFAULT_PATH


def _find_engine(settings: Mapping[str, str], path: str) -> Path | None:
    named = settings.get("ARASUL_OLLAMA", "").strip()
    found = shutil.which(named or "ollama", path=settings.get("PATH") or path)
    return Path(found) if found else None


def _candidates(settings: Mapping[str, str], homes: Iterable[Path]) -> set[Path]:
    """Folders that the service may have to write to, as they are named."""
    named = {
        Path(value)
        for name in ("OLLAMA_MODELS", "ARASUL_STATE_DIR", "ARASUL_LOG_FILE", "HOME")
        if (value := settings.get(name, "").strip()).startswith("/")
    }
    home = Path(settings.get("HOME", "").strip() or "/")
    below_homes = {each / ".ollama" / part for each in (*homes, home) for part in ("", "models")}
    return named | {path.parent for path in named} | below_homes | set(homes)


def _owner(path: Path) -> str | None:
    try:
        return path.owner()
    except (OSError, KeyError):
        return None


def _user(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def _group_exists(name: str) -> bool:
    return subprocess.run(["getent", "group", name], stdout=subprocess.DEVNULL).returncode == 0  # noqa: S607


def _is_free(path: Path, target: Path) -> bool:
    """Whether nothing is there but a link that is ours."""
    if path.is_symlink():
        return os.readlink(path) == str(target)
    return not path.exists()


def _is_occupied(folder: Path) -> bool:
    try:
        return any(folder.iterdir())
    except FileNotFoundError:
        return False
    except NotADirectoryError:
        return True


def _output(command: list[str]) -> str:
    try:
        return subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            encoding="utf-8", errors="replace", timeout=_LIMIT_S,
        ).stdout  # fmt: skip
    except OSError:
        return ""
    except subprocess.TimeoutExpired as error:
        raise CannotInstall(
            f"`{' '.join(command)}` did not end within {_LIMIT_S:.0f} seconds. Nothing has been changed; try again."
        ) from error
