"""What processes use, as the kernel counts it: memory, processor time, and how often they were woken."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

KIB_OF_MIB: Final = 1024
SWITCHES: Final = ("voluntary_ctxt_switches", "nonvoluntary_ctxt_switches")


@dataclass(frozen=True, slots=True)
class Usage:
    """Of a few processes together. `busy_ns` and `switches` of the threads that live, since those began."""

    rss_mib: float
    pss_mib: float
    busy_ns: int
    switches: int


def usage_of(pids: Iterable[int]) -> Usage:
    """What those use now.

    `switches`: how often one of their threads has left its core, of its own will or not; each time it was woken anew.

    :raises FileNotFoundError: one of them is gone
    """
    rss = pss = 0.0
    busy_ns = switches = 0
    for pid in pids:
        memory = fields_of(Path(f"/proc/{pid}/smaps_rollup").read_text())
        rss += memory["Rss"] / KIB_OF_MIB
        pss += memory["Pss"] / KIB_OF_MIB
        for thread in Path(f"/proc/{pid}/task").iterdir():
            busy_ns += int((thread / "schedstat").read_text().split()[0])
            status = fields_of((thread / "status").read_text())
            switches += sum(status[name] for name in SWITCHES)
    return Usage(rss, pss, busy_ns, switches)


# Rss:                1588 kB
# voluntary_ctxt_switches:	150
def fields_of(text: str) -> dict[str, int]:
    """The fields of such a file whose value is a whole number, with or without a unit."""
    pairs = (line.partition(":")[::2] for line in text.splitlines())
    words = ((name, value.split()) for name, value in pairs)
    return {name: int(value[0]) for name, value in words if value and value[0].isdigit()}
