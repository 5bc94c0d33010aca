"""What an uninstall does, decided from what is on the box. Pure."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from scripts.systemd.actions import Plan, Remove, RemoveIfEmpty, Run
from scripts.systemd.places import (
    COMMAND_LINK,
    DROP_IN,
    DROP_IN_FOLDER,
    ENV_FILE,
    LOG_FOLDER,
    LOG_LINK,
    OLLAMA_UNIT,
    OWN_USER,
    STATE_DIR,
    UNIT,
    UNIT_FILE,
)
from scripts.systemd.reading import Record
from scripts.systemd.refusals import check_installed_prefix

if TYPE_CHECKING:
    from scripts.systemd.actions import Action
    from scripts.systemd.box import Box
    from scripts.systemd.places import Prefix


def plan_uninstall(box: Box, prefix: Prefix, *, purge: bool, restore_ollama: bool) -> Plan:
    """Take the service away. Models, settings and state stay unless `purge`; models elsewhere stay always.

    :raises CannotInstall: it lies below another prefix
    """
    check_installed_prefix(box, prefix)
    record = box.record or Record()
    actions: list[Action] = []
    notes = []
    if box.is_installed:
        actions.append(Run("stop and disable the service", ("systemctl", "disable", "--now", UNIT)))
    actions += [Remove(UNIT_FILE), Remove(DROP_IN), RemoveIfEmpty(DROP_IN_FOLDER)]
    actions.append(Run("have systemd forget the unit", ("systemctl", "daemon-reload")))
    if record.disabled_ollama and box.ollama.is_known:
        command = ("systemctl", "enable", "--now", OLLAMA_UNIT)
        if restore_ollama:  # early: whatever fails below, the box has its Ollama
            actions.append(Run(f"give Ollama back to {OLLAMA_UNIT}, as it was before", command))
        else:
            notes.append(f"{OLLAMA_UNIT} stays disabled. To have it back: sudo {shlex.join(command)}")
    actions += [Remove(COMMAND_LINK)] if box.command_link_is_free else []
    actions += [Remove(LOG_LINK)] if box.log_link_is_free else []
    if purge:
        actions += [Remove(ENV_FILE), Remove(STATE_DIR), Remove(LOG_FOLDER)]
        if record.made_user:
            actions.append(Run(f"remove the user {OWN_USER}", ("userdel", OWN_USER)))
    else:
        kept = f"{ENV_FILE}, {STATE_DIR} and {LOG_FOLDER}"
        notes.append(
            f"Kept: {kept}. `sudo make uninstall-systemd ARGS=--purge` removes them too, with their models."
        )
    if box.record:  # last, and only what it names: without it the folder is somebody else's
        actions += [Remove(prefix.current), *(Remove(prefix.venvs / name) for name in record.venvs)]
        actions += [RemoveIfEmpty(prefix.venvs), Remove(prefix.record), RemoveIfEmpty(prefix.folder)]
    return Plan(tuple(actions), tuple(notes))
