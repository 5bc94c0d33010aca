"""What an install does, decided from what is on the box. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from scripts.systemd.actions import BuildVenv, CheckSettings, Link, Plan, Remove, Run, Start, Write
from scripts.systemd.errors import CannotInstall
from scripts.systemd.places import (
    COMMAND_LINK,
    DROP_IN,
    ENV_FILE,
    LOG_FILE,
    LOG_LINK,
    OLLAMA_UNIT,
    STATE_DIR,
    UNIT,
    UNIT_FILE,
    Prefix,
)
from scripts.systemd.reading import Record
from scripts.systemd.refusals import (
    check_prefix,
    choose_python,
    require_engine,
    require_plain,
    require_reachable_store,
    require_writable,
)
from scripts.systemd.standing import folders_to_open, home_of, service_user, settings_to_be, taken_over
from scripts.systemd.unit_text import drop_in_text, env_file_text, unit_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from scripts.systemd.actions import Action
    from scripts.systemd.box import Box, Python

OfOllama = Literal["disable", "keep", "unsaid"]


@dataclass(frozen=True)
class Wishes:
    """What the person asked for, and the material at hand."""

    prefix: Prefix
    source: Path
    venv_name: str
    unit: str
    env_file: str
    of_ollama: OfOllama = "unsaid"


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
    check_prefix(box, wishes.prefix)
    python = choose_python(box)
    require_engine(box)
    user = service_user(box)
    require_plain(box, user)
    is_kept = wishes.of_ollama == "keep" and (box.ollama.is_enabled or box.ollama.is_active)
    if not is_kept:
        require_reachable_store(box, user)
    old_venvs = [name for name in (box.record or Record()).venvs if name != wishes.venv_name]
    starts = not is_kept or box.is_running
    return Plan(
        actions=(
            _remember(box, wishes, user),
            *_make_user(box, user),
            *require_writable(box, user),
            *_build(box, wishes, user, python),
            *_place_files(box, wishes, user),
            *_link_names(box, wishes.prefix),
            Run("have systemd read the unit", ("systemctl", "daemon-reload")),
            *(() if is_kept else _enable(box)),
            *((Start(UNIT),) if starts else ()),
            # without a start the old one may still run
            *(Remove(wishes.prefix.venvs / name) for name in old_venvs if starts),
        ),
        notes=tuple(_notes(box, user, is_kept=is_kept)),
    )


def _remember(box: Box, wishes: Wishes, user: str) -> Action:
    """First of all: an install that fails halfway must be undone too."""
    known = box.record or Record()
    disables = box.ollama.is_enabled and wishes.of_ollama == "disable"
    record = Record(
        disabled_ollama=known.disabled_ollama or disables,
        made_user=known.made_user or user not in box.homes,
        user=user,
        venvs=tuple(dict.fromkeys((*known.venvs, wishes.venv_name))),
    )
    return Write(wishes.prefix.record, record.text)


def _make_user(box: Box, user: str) -> Iterator[Action]:
    if user not in box.homes:
        yield Run(
            f"make the system user {user}",
            ("useradd", "--system", "--user-group", "--home-dir", str(STATE_DIR), "--no-create-home",
             "--shell", "/usr/sbin/nologin", user),
        )  # fmt: skip


def _build(box: Box, wishes: Wishes, user: str, python: Python) -> Iterator[Action]:
    """The new program, put in force once it has found no fault with the settings."""
    venv = wishes.prefix.venvs / wishes.venv_name
    yield BuildVenv(wishes.source, venv, python.path)
    environment = {
        "PATH": box.path, "HOME": str(home_of(box, user)), "USER": user, "ARASUL_LOG_FILE": str(LOG_FILE),
        **settings_to_be(box, user),
    }  # fmt: skip
    yield CheckSettings(venv / "bin" / "arasul-supervisor", user, environment)
    yield Link(wishes.prefix.current, venv)


def _place_files(box: Box, wishes: Wishes, user: str) -> Iterator[Action]:
    yield Write(UNIT_FILE, unit_text(wishes.unit, wishes.prefix))
    opened = folders_to_open(box, user)
    home = box.homes.get(user, STATE_DIR)
    mounts = tuple(path for path in opened if path not in (home, home / ".ollama"))
    yield Write(
        DROP_IN,
        drop_in_text(
            user=user, groups=box.groups, folders=opened, mounts=mounts, has_modprobe=box.has_nvidia_modprobe
        ),
    )
    if box.settings is None:  # 0640: a proxy's password may have been taken over
        yield Write(ENV_FILE, env_file_text(wishes.env_file, taken_over(box, user)), mode=0o640)


def _link_names(box: Box, prefix: Prefix) -> Iterator[Action]:
    if box.log_link_is_free:
        yield Link(LOG_LINK, LOG_FILE)
    if box.command_link_is_free:
        yield Link(COMMAND_LINK, prefix.command)


def _enable(box: Box) -> Iterator[Action]:
    if box.ollama.is_enabled or box.ollama.is_active:
        yield Run(f"stop and disable {OLLAMA_UNIT}", ("systemctl", "disable", "--now", OLLAMA_UNIT))
    yield Run("start it at every boot", ("systemctl", "enable", UNIT))


def _notes(box: Box, user: str, *, is_kept: bool) -> Iterator[str]:
    settings = settings_to_be(box, user)
    if is_kept:
        so_far = "It goes on" if box.is_running else "Installed, not started"
        yield (
            f"{so_far}: {OLLAMA_UNIT} is left as it is, and only one of the two can run. To change over: "
            f"sudo systemctl disable --now ollama && sudo systemctl enable --now {UNIT}"
        )
    if not settings.get("OLLAMA_HOST", "").strip():
        yield (
            "Ollama listens on every network of this box (0.0.0.0:11434). For this box only, set "
            f"OLLAMA_HOST=127.0.0.1 in {ENV_FILE}."
        )
    missing = {name for name, value in taken_over(box, user).items() if settings.get(name) != value}
    if box.settings is not None and missing and not (box.record and box.record.disabled_ollama):
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
