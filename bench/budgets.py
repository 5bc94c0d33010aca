"""The promises of speed that the figures are held against, and which figures answer each."""

from __future__ import annotations

from typing import Final

BUDGETS: Final[dict[str, str]] = {
    "restart": "SIGKILL of the engine → the next engine's first instruction, one process: p50 ≤ 2.0 ms, p99 ≤ 3.5 ms",
    "restart of a tree": "the same with a tree of four: p50 ≤ 2.5 ms, p99 ≤ 5 ms",
    "outage": "SIGKILL of the real Ollama → its next 200: ≤ 1.05 × its bare cold start",
    "survivors": "survivors of 1,000 kills: none",
    "launch": "launch → engine spawned ≤ 80 ms, → `/livez` answers ≤ 400 ms (a box without a GPU)",
    "memory": "resident memory of the daemon with its guardian: ≤ 45 MiB",
    "idle": "processor time of all when idle, 60 s by schedstat: ≤ 0.3 % of a core",
    "health": "`/health`, 16 connections: ≥ 0.85 × a bare aiohttp handler, ≥ 20,000 requests a second",
    "health while frozen": "`/health` while the engine is frozen: p99 ≤ 50 ms",
    "cache clear while frozen": "cache clear while the engine is frozen: ≤ 5 s, and truthful",
    "flood": "log flood: ≥ 100 MB/s, flat memory, no rule line missed, the engine never waits",
}
"""By the word that a `Goal` names."""
