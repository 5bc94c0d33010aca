"""The texts that the install step writes: the unit, its drop-in, the environment file."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from scripts.systemd.places import DEFAULT_PREFIX, GPU_GROUPS, HOMES, NVIDIA_MODPROBE, OLLAMA_UNIT, is_below

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from scripts.systemd.places import Prefix


def unit_text(shipped: str, prefix: Prefix) -> str:
    """The shipped unit, starting the program below that prefix."""
    return shipped.replace(f"{DEFAULT_PREFIX}/", f"{prefix.folder}/")


def prefix_of_unit(text: str) -> str | None:
    """The folder below which an installed unit starts its program."""
    match = re.search(r"^ExecStart=(/.+)/current/bin/arasul-supervisor run$", text, re.MULTILINE)
    return match[1] if match else None


def drop_in_text(
    *, user: str, groups: frozenset[str], folders: Iterable[Path], mounts: Iterable[Path], has_modprobe: bool
) -> str:
    """What is true of this box only.

    :param folders: what the service writes to outside of its own state, log and temporary folders
    :param mounts: of these, what may lie on a disk that is mounted late
    """
    lines = ["# Written by `make install-systemd`, and again by each later one. Changes of your own belong in another",
             "# file: `sudo systemctl edit arasul-supervisor`.", "[Unit]"]  # fmt: skip
    lines += [f"RequiresMountsFor={_quoted(path)}" for path in mounts]
    lines += ["", "[Service]", f"User={user}", "SupplementaryGroups="]
    present = [name for name in GPU_GROUPS if name in groups]
    if present:
        lines.append(f"SupplementaryGroups={' '.join(present)}")
    if has_modprobe:
        lines += [
            "# Makes /dev/nvidia-uvm; later, without rights, nobody could.",
            f"ExecStartPre=-+{NVIDIA_MODPROBE} -c 0 -u",
        ]
    folders = list(folders)
    if any(is_below(path, HOMES) for path in folders):
        lines += ["# The homes stay hidden, apart from what is bound in.", "ProtectHome=tmpfs"]
    for path in folders:
        key = "BindPaths" if is_below(path, HOMES) else "ReadWritePaths"
        lines.append(f"{key}={_quoted(path)}")
    return "\n".join(lines) + "\n"


def env_file_text(shipped: str, taken_over: Mapping[str, str]) -> str:
    """The shipped environment file, with the variables that a person had set for Ollama's own service."""
    if not taken_over:
        return shipped
    lines = [f"{name}={_env_quoted(value)}" for name, value in sorted(taken_over.items())]
    return f"{shipped}\n# Taken over from {OLLAMA_UNIT}:\n" + "\n".join(lines) + "\n"


def _quoted(path: Path) -> str:
    """A path in a list of paths: `%` is systemd's own sign, blanks divide. Worse ones have been refused."""
    text = str(path).replace("%", "%%")
    return f'"{text}"' if re.search(r"[ ';]", text) else text


def _env_quoted(value: str) -> str:
    return '"' + re.sub(r'(["\\$`])', r"\\\1", value) + '"'
