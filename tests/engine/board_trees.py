"""Trees that imitate `/` of a machine, kept as one text file each, and laid out for a reader.

etc/hostname = jetson                        a file with one line
proc/meminfo :                               a file with the indented lines below
    MemTotal:       64349016 kB
proc/device-tree/model : "NVIDIA Jetson\\u0000"   a file with exactly this content
proc/device-tree -> ../sys/firmware/base     a link
sys/class/thermal/thermal_zone1/temp ! EAGAIN    a read that answers so: a FIFO, which the test must hold open
sys/class/hwmon /                            an empty folder
sys/class/hwmon/hwmon3 -                     nothing: it is removed
"""

from __future__ import annotations

import json
import os
import re
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

BOARDS: Final = Path(__file__).with_name("boards")
_ENTRY: Final = re.compile(r"(\S+) (=|:|->|!|/|-)(?: (.*))?")


@contextmanager
def laid_out(name: str, root: Path, *states: str) -> Iterator[Path]:
    """The tree of that machine below `root`, which the test may change, for the length of the block.

    :param states: what is laid over it, such as `busy`
    """
    held: list[int] = []
    try:
        for state in ("tree", *states):
            held += lay(BOARDS / name / f"{state}.txt", root)
        yield root
    finally:
        for fd in held:
            os.close(fd)


def lay(file: Path, root: Path) -> list[int]:
    """Lay the tree of the file over what is there; the descriptors that keep its FIFOs answering EAGAIN."""
    held: list[int] = []
    lines = file.read_text(encoding="utf-8").splitlines()
    while lines:
        line = lines.pop(0)
        if not line or line.startswith("#"):
            continue
        entry = _ENTRY.fullmatch(line)
        assert entry, f"{file}: {line!r} is no entry"
        path, operator, value = entry.groups()
        if operator == ":" and value is None:
            block: list[str] = []
            while lines and lines[0].startswith("    "):
                block.append(lines.pop(0)[4:])
            value = "\n".join(block) + "\n"
        held += _make(root / path, operator, value or "")
    return held


def expected(name: str, state: str = "") -> Any:  # Any: JSON
    """What a correct reader reports of that machine, idle or in that state."""
    file = f"expected-{state}.json" if state else "expected.json"
    return json.loads((BOARDS / name / file).read_text(encoding="utf-8"))


def answers(name: str, *, fault: str = "", state: str = "") -> str | None:
    """What the stub library answers on that machine, well or with a fault; None: it has no such library."""
    if fault:
        return (BOARDS / name / "faults" / f"{fault}.txt").read_text(encoding="utf-8")
    file = BOARDS / name / (f"nvml-{state}.txt" if state else "nvml.txt")
    file = file if file.exists() else BOARDS / name / "nvml.txt"
    return file.read_text(encoding="utf-8") if file.exists() else None


def _make(path: Path, operator: str, value: str) -> list[int]:
    _remove(path)
    if operator == "-":
        return []
    path.parent.mkdir(parents=True, exist_ok=True)
    if operator == "/":
        path.mkdir()
    elif operator == "->":
        path.symlink_to(value)
    elif operator == "!":
        assert value == "EAGAIN", f"{path}: nobody knows how to make {value}"
        os.mkfifo(path)
        return [os.open(path, os.O_RDWR | os.O_NONBLOCK)]
    elif operator == "=":
        path.write_text(f"{value}\n", encoding="utf-8")
    else:
        path.write_text(json.loads(value) if value.startswith('"') else value, encoding="utf-8")
    return []


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif path.is_symlink() or path.exists():
        path.unlink()
