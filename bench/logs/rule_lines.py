"""Lines that the rules know, to be sown among recorded ones; each bears its number and the instant of its writing."""

from __future__ import annotations

import re
from collections import Counter
from typing import Final

MARK: Final = b"sown-"
HEAD: Final = "time=2026-11-23T07:32:48.871Z level=INFO source=sched.go:511 msg="
RUNNER: Final = "time=2026-11-23T07:32:48.871Z level=ERROR source=llama_server.go:1 msg="

# Each its own outcome, told at once: none waits for another line, none has to last (facts/ollama.md §6.2).
RULE_LINES: Final = (
    (
        "load_failed",
        HEAD + '"Load failed" model=/b/{mark} error="llama-server process has terminated: exit 1"',
    ),
    ("runner_died", RUNNER + '"llama-server process no longer running" sys=9 string="signal: killed" {mark}'),
    ("setting_ignored", HEAD + '"invalid environment variable, using default" key={mark}'),
    (
        "memory_tight",
        HEAD + '"llama-server load failed; evicting all other models and retrying once" model=/b/{mark}',
    ),
    (
        "disk_full",
        HEAD + '"{mark} part 3 attempt 0 failed: write /s: no space left on device, retrying in 1s"',
    ),
    ("prompt_truncated", HEAD + '"truncating input prompt" limit=2048 prompt=4096 keep=4 new=2048 {mark}'),
)
SOWN: Final = re.compile(MARK + rb"(\d+)-(\d+)")


def sowing_text(n_outcomes: int = len(RULE_LINES)) -> str:
    """A line for each of the first outcomes, for the fake engine's `sow`."""
    mark = MARK.decode() + "{n}-{mono_ns}"
    return "".join(f"{line}\n".replace("{mark}", mark) for _, line in RULE_LINES[:n_outcomes])


def sown_outcomes(n: int) -> Counter[str]:
    """How often each outcome stands in the first n lines that are sown."""
    return Counter(RULE_LINES[number % len(RULE_LINES)][0] for number in range(n))
