"""What an install does, decided from what is on the box. Pure."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from scripts.systemd.actions import BuildVenv, Link, Plan, Remove, RequireWritable, Run, Start, Write
from scripts.systemd.places import (
    COMMAND_LINK,
    DROP_IN,
    ENV_FILE,
    HOMES,
    LOG_FILE,
    LOG_LINK,
    OLLAMA_UNIT,
    STATE_DIR,
    UNIT,
    UNIT_FILE,
    Prefix,
    is_below,
)
from scripts.systemd.standing import folders_to_open, service_user, settings_to_be, taken_over
from scripts.systemd.unit_text import drop_in_text, env_file_text, unit_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from scripts.systemd.actions import Action
    from scripts.systemd.box import Box, Python

OLDEST_PYTHON = (3, 10)

OfOllama = Literal["disable", "keep", "unsaid"]


class CannotInstall(Exception):
    """Why it cannot be done here, and what to do, in sentences."""


@dataclass(frozen=True)
class Wishes:
    """What the person asked for, and the material at hand."""

    prefix: Prefix
    source: Path
    venv_name: str
    unit: str
    env_file: str
    of_ollama: OfOllama = "unsaid"


def check_ground(*, is_root: bool, has_systemd: bool) -> None:
    """Whether anything can be done here at all.

    :raises CannotInstall: not root, or no systemd
    """
    if not is_root:
        raise CannotInstall("This needs root: sudo make install-systemd (or uninstall-systemd).")
    if not has_systemd:
        raise CannotInstall(
            "systemd does not run this box (there is no /run/systemd/system). In a container the image is the way: "
            "docker compose up -d llm-service; without both, `make run`."
        )


def must_ask(box: Box, wishes: Wishes) -> bool:
    """Whether a person must say what is to become of Ollama's own service."""
    return wishes.of_ollama == "unsaid" and (box.ollama.is_enabled or box.ollama.is_active)


def plan_install(box: Box, wishes: Wishes) -> Plan:
    """The install, the upgrade and the repair: they are one.

    :raises CannotInstall: something is missing that the install step does not bring
    """
    if must_ask(box, wishes):
        raise CannotInstall(
            f"{OLLAMA_UNIT} runs Ollama on this box already and holds its port. Say what is to become of it: "
            "sudo make install-systemd ARGS=--disable-ollama (the supervisor runs Ollama from now on, with the same "
            "models and settings), or ARGS=--keep-ollama (installed, but not started). Nothing has been changed."
        )
    python = _choose_python(box)
    _require_engine(box)
    if is_below(wishes.prefix.folder, HOMES):
        raise CannotInstall(
            f"The service cannot see home folders, so it cannot run from {wishes.prefix.folder}."
        )
    user = service_user(box)
    keep = wishes.of_ollama == "keep" and (box.ollama.is_enabled or box.ollama.is_active)
    return Plan(
        actions=(
            _remember(box, wishes, user),
            *_make_user(box, user),
            *_require_stores(box, user),
            *_place_files(box, wishes, user, python),
            *_link_names(box, wishes.prefix),
            Run("have systemd read the unit", ("systemctl", "daemon-reload")),
            *(() if keep else _put_in_force(box)),
            *(Remove(venv) for venv in box.old_venvs),
        ),
        notes=tuple(_notes(box, keep)),
    )


def _choose_python(box: Box) -> Python:
    """The first interpreter that a service can be built on."""
    reasons = []
    for python in box.pythons:
        if is_below(python.path, HOMES):
            reasons.append(f"{python.path} lies in a home folder, which the service cannot see")
        elif python.version < OLDEST_PYTHON:
            reasons.append(
                f"{python.path} is {python.version[0]}.{python.version[1]}, needed is 3.10 or newer"
            )
        elif not python.has_venv:
            reasons.append(
                f"{python.path} cannot make virtual environments (Debian, Ubuntu: sudo apt-get install python3-venv)"
            )
        else:
            return python
    raise CannotInstall("There is no Python to build on: " + "; ".join(reasons or ["none was found"]) + ".")


def _require_engine(box: Box) -> None:
    """The engine must be there, and where the service sees it."""
    if box.engine is None:
        raise CannotInstall(
            "There is no Ollama on this box. Install it (https://ollama.com/download), then run this again; "
            f"or name its program in {ENV_FILE}: ARASUL_OLLAMA=/path/to/ollama"
        )
    if is_below(box.engine, HOMES):
        raise CannotInstall(
            f"The service cannot see home folders, so it cannot run {box.engine}. Install Ollama below "
            "/usr/local (https://ollama.com/download)."
        )


def _remember(box: Box, wishes: Wishes, user: str) -> Action:
    """First of all: an install that fails halfway must be undone too."""
    disables = box.ollama.is_enabled and wishes.of_ollama == "disable"
    record = {
        "disabled_ollama": box.record.disabled_ollama or disables,
        "made_user": box.record.made_user or user not in box.homes,
    }
    return Write(wishes.prefix.record, json.dumps(record) + "\n")


def _make_user(box: Box, user: str) -> Iterator[Action]:
    if user not in box.homes:
        yield Run(
            f"make the system user {user}",
            ("useradd", "--system", "--user-group", "--home-dir", str(STATE_DIR), "--no-create-home",
             "--shell", "/usr/sbin/nologin", user),
        )  # fmt: skip


def _place_files(box: Box, wishes: Wishes, user: str, python: Python) -> Iterator[Action]:
    prefix = wishes.prefix
    yield BuildVenv(wishes.source, prefix.venvs / wishes.venv_name, python.path, prefix.current)
    yield Write(UNIT_FILE, unit_text(wishes.unit, prefix))
    opened = folders_to_open(box, user)
    home = box.homes.get(user)
    mounts = tuple(path for path in opened if path != home)
    yield Write(
        DROP_IN,
        drop_in_text(
            user=user, groups=box.groups, folders=opened, mounts=mounts, has_modprobe=box.has_nvidia_modprobe
        ),
    )
    if box.settings is None:  # 0640: a proxy's password may have been taken over
        yield Write(ENV_FILE, env_file_text(wishes.env_file, taken_over(box)), mode=0o640)


def _link_names(box: Box, prefix: Prefix) -> Iterator[Action]:
    if box.log_link_is_free:
        yield Link(LOG_LINK, LOG_FILE)
    if box.command_link_is_free:
        yield Link(COMMAND_LINK, prefix.command)


def _require_stores(box: Box, user: str) -> Iterator[Action]:
    for path in folders_to_open(box, user):
        name = shlex.quote(str(path))
        remedy = f"sudo install -d -o {user} {name} && sudo chown -R {user}: {name}"
        yield RequireWritable(path, user, remedy, is_bound=is_below(path, HOMES))


def _put_in_force(box: Box) -> Iterator[Action]:
    if box.ollama.is_enabled or box.ollama.is_active:
        yield Run(f"stop and disable {OLLAMA_UNIT}", ("systemctl", "disable", "--now", OLLAMA_UNIT))
    yield Run("start it at every boot", ("systemctl", "enable", UNIT))
    yield Start(UNIT)


def _notes(box: Box, keep: bool) -> Iterator[str]:
    settings = settings_to_be(box)
    if keep:
        yield (
            f"Installed, not started: {OLLAMA_UNIT} keeps running Ollama. To change over: "
            f"sudo systemctl disable --now ollama && sudo systemctl enable --now {UNIT}"
        )
    if not settings.get("OLLAMA_HOST", "").strip():
        yield (
            "Ollama listens on every network of this box (0.0.0.0:11434). For this box only, set "
            f"OLLAMA_HOST=127.0.0.1 in {ENV_FILE}."
        )
    missing = {name for name, value in taken_over(box).items() if settings.get(name) != value}
    if box.settings is not None and missing and not box.record.disabled_ollama:
        yield (
            f"{OLLAMA_UNIT} sets {', '.join(sorted(missing))}. {ENV_FILE} was there before and stays as it is: "
            "copy what you want to keep."
        )
    for path in box.ollama.environment_files:
        yield f"{OLLAMA_UNIT} also reads {path}, which is not taken over: copy what you want to keep to {ENV_FILE}."
    if not box.log_link_is_free:
        yield f"{LOG_LINK} is there already and stays as it is; the engine's log is {LOG_FILE}."
    if not box.command_link_is_free:
        yield f"{COMMAND_LINK} is there already and stays as it is."
