"""What a Docker engine changes in the host's network, taken back when it is gone.

It makes bridges, chains of its own and rules that lead there, drops what is forwarded, and turns forwarding on.
"""

from __future__ import annotations

import shlex
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

FORWARDING: Final = Path("/proc/sys/net/ipv4/ip_forward")
_TABLES: Final = ("filter", "nat")


@contextmanager
def network_restored(note: Path) -> Iterator[None]:
    """Whatever Docker engine ran inside leaves the host's network as it was before.

    :param note: file that keeps what was before, for the run after one that was killed
    :raises RuntimeError: something of it is still there
    """
    if not note.exists():
        note.write_text(f"{_forward_policy()} {FORWARDING.read_text()}")
    bridges = _bridges()
    try:
        yield
    finally:
        # without an engine docker0 can only be the leftover of one
        new = [bridge for bridge in _bridges() if bridge not in bridges or bridge == "docker0"]
        _remove_rules(["DOCKER", "docker0", *new])
        for bridge in new:
            subprocess.run(["ip", "link", "delete", bridge], check=True)
        policy, forwarding = note.read_text().split()
        _iptables("-P", "FORWARD", policy)
        FORWARDING.write_text(forwarding)
        note.unlink()
        if left := [line for table in _TABLES for line in _rules(table) if "DOCKER" in line]:
            raise RuntimeError(f"The Docker engine left rules behind: {left}")


def _remove_rules(words: list[str]) -> None:
    """Rules first, wherever they stand; then the chains, which are empty and named by nobody."""
    for table in _TABLES:
        ours = [line for line in _rules(table) if any(word in line for word in words)]
        for line in ours:
            if line.startswith("-A "):
                _iptables("-t", table, "-D", *shlex.split(line)[1:])
        for line in ours:
            if line.startswith("-N "):
                _iptables("-t", table, "-X", line.split()[1])


def _rules(table: str) -> list[str]:
    return _iptables("-t", table, "-S").splitlines()


def _forward_policy() -> str:
    policies = dict(line.split()[1:3] for line in _rules("filter") if line.startswith("-P "))
    return policies["FORWARD"]


def _iptables(*arguments: str) -> str:
    command = ["iptables", "-w", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _bridges() -> list[str]:
    names = [path.name for path in Path("/sys/class/net").iterdir()]
    return [name for name in names if name == "docker0" or name.startswith("br-")]
