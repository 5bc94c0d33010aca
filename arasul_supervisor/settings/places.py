"""Where files lie unless told otherwise, and which engine is at hand. Looks only; creates nothing.

os.path looks here and not Path: its answers are no where Path raises, such as behind a closed folder.
"""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

SYSTEM_LOG_FOLDER: Final = Path("/var/log")
SYSTEM_STATE_DIR: Final = Path("/var/lib/arasul-supervisor")
MADE_ENGINE: Final = (
    Path(__file__).parents[2] / ".cache/engine/current/bin/ollama"
)  # put there by `make ollama`

_OWN_FOLDER: Final = "arasul-supervisor"


def default_log_file(environ: Mapping[str, str], *, folder: Path = SYSTEM_LOG_FOLDER) -> tuple[Path, str]:
    """The engine log and the origin of that choice."""
    log = folder / "ollama.log"
    if _can_make(os.path.dirname(os.path.realpath(log))):
        return log, "default"
    return _xdg_state_dir(environ) / "ollama.log", f"derived: {folder} is not writable"


def default_state_dir(environ: Mapping[str, str], *, folder: Path = SYSTEM_STATE_DIR) -> tuple[Path, str]:
    """The folder for small state and the origin of that choice."""
    if _can_make(os.path.realpath(folder)):
        return folder, "default"
    return _xdg_state_dir(environ), f"derived: {folder} is not writable"


def find_engine(environ: Mapping[str, str], *, made: Path = MADE_ENGINE) -> tuple[Path | None, str]:
    """`ollama` on PATH, else the one that `make ollama` installed, else None; with its origin."""
    # not shutil.which: its import costs 2 ms on the way to the first spawn
    for folder in filter(None, environ.get("PATH", os.defpath).split(os.pathsep)):
        program = Path(folder, "ollama").absolute()
        if is_program(program):
            return program, "derived: found on PATH"
    if is_program(made):
        return made, "derived: not on PATH, installed by `make ollama`"
    return None, "derived: not on PATH"


def home_folder(environ: Mapping[str, str]) -> tuple[Path | None, str]:
    """HOME, else this user's passwd entry, else None; with where it came from."""
    given = environ.get("HOME", "").strip()
    if given:
        return Path(given), "environment"
    try:
        return Path(pwd.getpwuid(os.getuid()).pw_dir), "passwd entry"
    except KeyError:  # a container's `--user 1234` has none
        return None, "unknown"


def is_program(path: Path) -> bool:
    """Whether `path` is a file that this user may execute."""
    return os.path.isfile(path) and os.access(path, os.X_OK)


def _xdg_state_dir(environ: Mapping[str, str]) -> Path:
    given = environ.get("XDG_STATE_HOME", "").strip()
    if given.startswith("/"):  # the XDG specification has relative ones ignored
        return Path(given, _OWN_FOLDER)
    home, _ = home_folder(environ)
    if home is None:
        raise ValueError("is unset, and without HOME there is no place to fall back to")
    return home / ".local/state" / _OWN_FOLDER


def _can_make(folder: str) -> bool:
    """Whether the folder can be written, or made: then its nearest ancestor that is there can be written.

    Both places may be links into a volume that is still empty, as in our image.
    """
    while not os.path.exists(folder):
        folder = os.path.dirname(folder)
    return os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK)
