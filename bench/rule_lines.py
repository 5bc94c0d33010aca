"""Lines that the rules know, to be sown among recorded ones; each bears its number and the instant of its writing."""

from __future__ import annotations

import re
from collections import Counter
from typing import Final

MARK: Final = b"sown-"
HEAD: Final = "time=2026-11-23T07:32:48.871Z level=INFO source=sched.go:511 msg="
RUNNER: Final = "time=2026-11-23T07:32:48.871Z level=ERROR source=llama_server.go:1 msg="

# Each its own outcome, none a candidate that waits for another line (facts/ollama.md §6.2).
RULE_LINES: Final = (
    (
        "load_failed",
        HEAD + '"Load failed" model=/b/{mark} error="llama-server process has terminated: exit 1"',
    ),
    ("runner_died", RUNNER + '"llama-server process no longer running" sys=9 string="signal: killed" {mark}'),
    ("setting_ignored", HEAD + '"invalid environment variable, using default" key={mark}'),
    ("manifest_damaged", HEAD + '"bad manifest" name={mark} error="unexpected EOF"'),
    (
        "disk_full",
        HEAD + '"{mark} part 3 attempt 0 failed: write /s: no space left on device, retrying in 1s"',
    ),
    (
        "model_unreadable",
        HEAD + '"couldn\'t open model file" error="open /{mark}: no such file or directory"',
    ),
)
SOWN: Final = re.compile(MARK + rb"(\d+)-(\d+)")


def sowing_text(n_outcomes: int = len(RULE_LINES)) -> str:
    """A line for each of the first outcomes, for the fake engine's `sow`."""
    mark = MARK.decode() + "{n}-{mono_ns}"
    return "".join(f"{line}\n".replace("{mark}", mark) for _, line in RULE_LINES[:n_outcomes])


def sown_outcomes(n: int) -> Counter[str]:
    """How often each outcome stands in the first n lines that are sown."""
    return Counter(RULE_LINES[number % len(RULE_LINES)][0] for number in range(n))
