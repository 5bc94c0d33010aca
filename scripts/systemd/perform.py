"""Does the actions of a plan, one after the other; the first that fails ends it."""

from __future__ import annotations

import os
import pwd
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from scripts.systemd.actions import (
    BuildVenv,
    CheckSettings,
    Link,
    Remove,
    RemoveIfEmpty,
    RequireWritable,
    Run,
    Start,
    Write,
)
from scripts.systemd.errors import Failed
from scripts.systemd.places import ENV_FILE

if TYPE_CHECKING:
    from scripts.systemd.actions import Action

PACKAGE_FILES = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE")
PACKAGE = "arasul_supervisor"
_BAD_SETTINGS = 2
_LIMIT_S = 30.0


def perform(action: Action) -> None:
    """Do it.

    :raises Failed: it could not be done
    :raises OSError: a file could not be written
    """
    match action:
        case Run(sentence, command):
            _run(command, f"could not {sentence}")
        case BuildVenv():
            _build_venv(action)
        case CheckSettings():
            _check_settings(action)
        case Write(path, text, mode):
            _write(path, text, mode)
        case Link(path, target):
            _link(path, target)
        case Remove(path):
            _remove(path)
        case RemoveIfEmpty(path):
            if path.is_dir() and not os.listdir(path):
                path.rmdir()
        case RequireWritable():
            _require_writable(action)
        case Start(unit):
            _start(unit)


def status_of(unit: str) -> tuple[str, str]:
    """The unit's state, and the sentence that it has told."""
    command = ("systemctl", "show", unit, "--property=ActiveState,StatusText")
    shown = subprocess.run(command, stdout=subprocess.PIPE, text=True).stdout
    properties = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    return properties.get("ActiveState", "unknown"), properties.get("StatusText", "")


def _build_venv(action: BuildVenv) -> None:
    """Built beside the one in force: if it fails, the service goes on as it was."""
    action.venv.parent.mkdir(parents=True, exist_ok=True)
    try:
        _run((str(action.python), "-m", "venv", str(action.venv)), "could not make a virtual environment")
        # A copy, since building in the checkout would leave files of root's in a person's folder.
        with tempfile.TemporaryDirectory(prefix="arasul-install-") as copy:
            for name in PACKAGE_FILES:
                shutil.copy(action.source / name, copy)
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(action.source / PACKAGE, Path(copy, PACKAGE), ignore=ignored)
            pip = (str(action.venv / "bin" / "python"), "-m", "pip", "install", "--quiet")
            _run((*pip, "--disable-pip-version-check", copy), "pip could not install the program")
    except BaseException:
        shutil.rmtree(action.venv, ignore_errors=True)
        raise


def _check_settings(action: CheckSettings) -> None:
    said = subprocess.run(
        [str(action.program), "config"], env=dict(action.environment), cwd="/", stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, encoding="utf-8", errors="replace",
        timeout=_LIMIT_S, **_identity(action.user),
    )  # fmt: skip
    if said.returncode == _BAD_SETTINGS:
        raise Failed(f"{said.stderr.strip()}\nPut that right in {ENV_FILE}; what runs now goes on as it is.")


def _write(path: Path, text: str, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    # with its mode from the start: it may hold a password
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as file:
        file.write(text)
    fresh.replace(path)


def _link(path: Path, target: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    fresh.replace(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _require_writable(action: RequireWritable) -> None:
    if not action.path.is_dir():
        raise Failed(
            f"{action.path} does not exist. If it lies on a disk of its own, mount that first; else make it: "
            f"{action.if_absent}"
        )
    for folder in (action.path, action.path / "blobs", action.path / "manifests"):
        if not folder.is_dir():
            continue
        # the working folder is entered as root, so `.` needs no way through the parents
        place, target = (folder, ".") if action.is_bound else (Path("/"), str(folder))
        can = subprocess.run(
            ["/usr/bin/test", "-w", target, "-a", "-x", target],
            cwd=place,
            **_identity(action.user),
        )
        if can.returncode != 0:
            raise Failed(
                f"{action.user}, as whom the service runs, cannot write in {folder}. {action.if_closed}"
            )


class _Identity(TypedDict):
    user: int
    group: int
    extra_groups: list[int]


def _identity(user: str) -> _Identity:
    entry = pwd.getpwnam(user)
    return {
        "user": entry.pw_uid,
        "group": entry.pw_gid,
        "extra_groups": os.getgrouplist(user, entry.pw_gid),
    }


def _start(unit: str) -> None:
    restart = ("systemctl", "restart", unit)
    has_started = subprocess.run(restart, stdin=subprocess.DEVNULL).returncode == 0
    _, sentence = status_of(unit)
    if has_started and sentence.endswith(" answers."):
        return
    last_lines = ("journalctl", "--unit", unit, "--lines=15", "--no-pager", "--output=cat")
    subprocess.run(last_lines)
    problem = (
        f"{unit} runs, but Ollama does not answer: {sentence}" if has_started else f"{unit} did not start."
    )
    raise Failed(
        f"{problem} Its last lines stand above. When that is put right: sudo systemctl restart {unit}. "
        "Or, to have the box as it was: sudo make uninstall-systemd"
    )


def _run(command: tuple[str, ...], failure: str) -> None:
    try:
        ended = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
    except OSError as error:
        raise Failed(f"{failure}: {error}") from error
    if ended.returncode != 0:
        raise Failed(f"{failure}: `{shlex.join(command)}` said: {ended.stdout.strip() or ended.returncode}")
