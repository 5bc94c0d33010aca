"""What is on this box, as one value. Looks only; changes nothing."""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.systemd.places import (
    COMMAND_LINK,
    ENGINE_USER,
    ENV_FILE,
    GPU_GROUPS,
    LOG_FILE,
    LOG_LINK,
    NVIDIA_MODPROBE,
    OWN_USER,
    UNIT_FILE,
    Prefix,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

UNIT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/snap/bin"
"""PATH of a service: where the daemon will look for `ollama`."""


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
    environment: Mapping[str, str] = field(default_factory=dict)
    environment_files: tuple[str, ...] = ()


@dataclass(frozen=True)
class Record:
    """What an earlier install changed on the box beyond its own files."""

    disabled_ollama: bool = False
    made_user: bool = False


@dataclass(frozen=True)
class Box:
    """All that a decision needs to know. Paths are resolved where a link would mislead systemd."""

    pythons: tuple[Python, ...]
    homes: Mapping[str, Path]  # of the users `ollama` and `arasul`, where they exist
    groups: frozenset[str]  # of the GPU's groups those that exist
    ollama: OllamaService
    engine: Path | None
    settings: Mapping[str, str] | None  # the environment file; None where there is none
    resolved: Mapping[Path, Path]  # where a folder that may be written to really lies
    owners: Mapping[Path, str]
    has_nvidia_modprobe: bool
    log_link_is_free: bool
    command_link_is_free: bool
    is_installed: bool
    old_venvs: tuple[Path, ...]
    record: Record


def look(prefix: Prefix) -> Box:
    """Look around, for an install below that prefix."""
    settings = _read_settings(ENV_FILE)
    ollama = _look_at_ollama_service()
    homes = {name: Path(entry.pw_dir) for name in (ENGINE_USER, OWN_USER) if (entry := _user(name))}
    known = settings if settings is not None else ollama.environment
    folders = _candidates(known, homes.values())
    return Box(
        pythons=tuple(_pythons()),
        homes=homes,
        groups=frozenset(name for name in GPU_GROUPS if _group_exists(name)),
        ollama=ollama,
        engine=_find_engine(known),
        settings=settings,
        resolved={folder: Path(os.path.realpath(folder)) for folder in folders},
        owners={folder: owner for folder in folders if (owner := _owner(folder))},
        has_nvidia_modprobe=NVIDIA_MODPROBE.exists(),
        log_link_is_free=_is_free(LOG_LINK, LOG_FILE),
        command_link_is_free=_is_free(COMMAND_LINK, prefix.command),
        is_installed=UNIT_FILE.exists(),
        old_venvs=tuple(sorted(prefix.venvs.glob("*"))),
        record=_read_record(prefix.record),
    )


def parse_settings(text: str) -> dict[str, str]:
    """An environment file as systemd reads it: comments, quotes; no expansion."""
    found = {}
    for line in text.splitlines():
        match = re.fullmatch(r"\s*([A-Za-z_]\w*)=(.*?)\s*", line)
        if match:
            found[match[1]] = _unquoted(match[2])
    return found


def parse_shown_environment(text: str) -> dict[str, str]:
    """`OLLAMA_HOST=0.0.0.0 "OLLAMA_ORIGINS=a b"`, as `systemctl show -p Environment` prints it."""
    words = re.findall(r'"(?:[^"\\]|\\.)*"|\S+', text)
    pairs = (_unquoted(word).partition("=") for word in words)
    return {name: value for name, _, value in pairs}


def _unquoted(text: str) -> str:
    if len(text) >= 2 and text[0] == text[-1] == "'":
        return text[1:-1]
    if len(text) >= 2 and text[0] == text[-1] == '"':
        text = text[1:-1]
    return re.sub(r"\\(.)", r"\1", text)


def _read_settings(path: Path) -> dict[str, str] | None:
    try:
        return parse_settings(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def _read_record(path: Path) -> Record:
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return Record()
    return Record(bool(known.get("disabled_ollama")), bool(known.get("made_user")))


def _look_at_ollama_service() -> OllamaService:
    wanted = "LoadState,UnitFileState,ActiveState,Environment,EnvironmentFiles"
    shown = _output(["systemctl", "show", "ollama.service", f"--property={wanted}"])
    lines = [line.partition("=") for line in shown.splitlines()]
    properties = {name: value for name, _, value in lines}
    if properties.get("LoadState") != "loaded":
        return OllamaService()
    return OllamaService(
        is_known=True,
        is_enabled=properties["UnitFileState"] in ("enabled", "enabled-runtime"),
        is_active=properties["ActiveState"] in ("active", "activating", "reloading"),
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


def _find_engine(settings: Mapping[str, str]) -> Path | None:
    named = settings.get("ARASUL_OLLAMA", "").strip()
    path = settings.get("PATH") or UNIT_PATH
    found = shutil.which(named, path=path) if named else shutil.which("ollama", path=path)
    return Path(found) if found else None


def _candidates(settings: Mapping[str, str], homes: Iterable[Path]) -> set[Path]:
    """Folders that the service may have to write to, as they are named."""
    named = {
        Path(value)
        for name in ("OLLAMA_MODELS", "ARASUL_STATE_DIR", "ARASUL_LOG_FILE")
        if (value := settings.get(name, "").strip()).startswith("/")
    }
    below_homes = {home / ".ollama" / part for home in homes for part in ("", "models")}
    return named | {path.parent for path in named} | below_homes


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


def _output(command: list[str]) -> str:
    try:
        return subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=30
        ).stdout
    except OSError:
        return ""
