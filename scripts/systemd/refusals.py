"""What stands against an install, each as a sentence. Pure; nothing has been changed by then."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from scripts.systemd.actions import RequireWritable
from scripts.systemd.errors import CannotInstall
from scripts.systemd.places import ENV_FILE, HOMES, LOG_FOLDER, OLLAMA_UNIT, STATE_DIR, is_below
from scripts.systemd.standing import engine_store, engine_user, folders_to_open, known_settings, log_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from scripts.systemd.box import Box, Python
    from scripts.systemd.places import Prefix

OLDEST_PYTHON = (3, 10)


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


def check_prefix(box: Box, prefix: Prefix) -> None:
    """Whether the program may lie there: a folder of its own, the one of the last time.

    :raises CannotInstall: it may not
    """
    folder = prefix.folder
    # These need no quotes in a unit, a shell or a script's first line.
    if not re.fullmatch(r"(/(?!\.\.(/|$))[\w.+@=,-]+)+", str(folder), re.ASCII):
        raise CannotInstall(
            f"PREFIX is {str(folder)!r}: allowed is an absolute path of letters, digits and _ . + - @ = , without `..`"
        )
    check_installed_prefix(box, prefix)
    if box.is_prefix_taken:
        raise CannotInstall(
            f"{folder} holds something that is not of this program. Give it a folder of its own, such as "
            f"PREFIX={folder / 'arasul-supervisor'}"
        )
    if _is_in_a_home(box, folder):
        raise CannotInstall(f"The service cannot see home folders, so it cannot run from {folder}.")


def check_installed_prefix(box: Box, prefix: Prefix) -> None:
    """What is known of an earlier install lies below its prefix.

    :raises CannotInstall: that is another one
    """
    if box.installed_below and box.installed_below != prefix.folder:
        raise CannotInstall(
            f"The service is installed below {box.installed_below}. Leave PREFIX out; or, to have it elsewhere, "
            "take it away first: sudo make uninstall-systemd"
        )


def choose_python(box: Box) -> Python:
    """The first interpreter that a service can be built on.

    :raises CannotInstall: there is none
    """
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


def require_engine(box: Box) -> None:
    """The engine must be there, and where the service sees it.

    :raises CannotInstall: it is not
    """
    if box.engine is None:
        raise CannotInstall(
            "There is no Ollama on this box. Install it (https://ollama.com/download), then run this again; "
            f"or name its program in {ENV_FILE}: ARASUL_OLLAMA=/path/to/ollama"
        )
    if _is_in_a_home(box, box.engine):
        really = box.resolved.get(box.engine, box.engine)
        raise CannotInstall(
            f"The service cannot see home folders, so it cannot run {really}. Install Ollama below "
            "/usr/local (https://ollama.com/download)."
        )


def require_reachable_store(box: Box, user: str) -> None:
    """Ollama's models are not lost from sight without a word, nor taken from whom they belong to.

    :raises CannotInstall: Ollama's own service keeps them where ours could not write
    """
    store = engine_store(box)
    owner = box.owners.get(store)
    is_in_use = box.ollama.is_enabled or box.ollama.is_active
    is_chosen = bool(known_settings(box).get("OLLAMA_MODELS", "").strip())
    if is_in_use and not is_chosen and owner and user != engine_user(box):
        raise CannotInstall(
            f"{OLLAMA_UNIT} keeps its models in {store}. They belong to {owner}, and the supervisor would run as "
            f"{user}. Say in {ENV_FILE} where its models shall be, such as OLLAMA_MODELS={STATE_DIR}/models "
            "(empty at first; what you need can be copied there), then run this again."
        )


def require_plain(box: Box, user: str) -> None:
    """Paths go into root's drop-in, and what a link leads to is the choice of whoever owns the link.

    :raises CannotInstall: a path could be read as something else than a path
    """
    for path in folders_to_open(box, user):
        text = str(path)
        is_bound = is_below(path, HOMES)
        if (
            not text.isprintable()
            or re.search(r'["\\]', text)
            or ".." in path.parts
            or (is_bound and ":" in text)
        ):
            colon = ", and below a home no colon" * is_bound
            raise CannotInstall(
                f"The service would write to {text!a}, which cannot stand in a unit: a path must have no `..`, quotes, "
                f"backslashes or control characters{colon}. Rename it, or choose another folder in {ENV_FILE}."
            )


def require_writable(box: Box, user: str) -> Iterator[RequireWritable]:
    """What is seen to once the user is there. Nobody is told to give away what belongs to somebody else."""
    for path in folders_to_open(box, user):
        name = shlex.quote(str(path))
        owner = box.owners.get(path, "an unknown user")
        if owner == user:
            remedy = (
                f"See that every folder on the way there can be entered, then: sudo chown -R {user}: {name} "
                f"&& sudo chmod -R u+rwX {name}"
            )
        elif path == log_folder(box, user):
            remedy = f"It belongs to {owner}. Use a folder of its own, such as {LOG_FOLDER}, in {ENV_FILE}."
        else:
            own = path / "arasul-supervisor"
            remedy = (
                f"It belongs to {owner}. Use a folder of its own in {ENV_FILE}, such as {own}, made by: "
                f"sudo install -d -o {user} {shlex.quote(str(own))}"
            )
        yield RequireWritable(
            path,
            user,
            if_absent=f"sudo install -d -o {user} {name}",
            if_closed=remedy,
            is_bound=is_below(path, HOMES),
        )


def _is_in_a_home(box: Box, path: Path) -> bool:
    return is_below(path, HOMES) or is_below(box.resolved.get(path, path), HOMES)
