"""What each outcome of the engine's log means: one table. Pure.

An outcome is a thing that befell the engine, whatever words its lines use (rules.py knows those). `error` degrades
`/health` while it counts, `warning` is shown there and changes nothing, `info` is noteworthy and harmless, `step` marks
a healthy life.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

Severity = Literal["step", "info", "warning", "error"]

Scope = Literal["line", "run", "pull", "engine"]
"""Which lines tell of one and the same thing, and so count once:

`line`    each line counts
`run`     all of one runner, until its model is started anew; the most telling outcome names it
`pull`    all of one blob, until its download begins anew
`engine`  all about one subject, as long as this engine lives: the line comes again at each poll
"""

A_WHILE_S: Final = 300.0
ENGINE_LIFE_S: Final = math.inf


@dataclass(frozen=True, slots=True)
class Outcome:
    """One row.

    `counts_s`: how long health speaks of it after its last line; `is_cured`: a good load of that model ends it;
    `lasts_s`: lines at least so far apart prove it, for a model that is being written looks damaged for an instant;
    `is_start`: told by the server alone, before it listens.
    """

    name: str
    severity: Severity
    scope: Scope = "engine"
    counts_s: float = A_WHILE_S
    is_cured: bool = False
    lasts_s: float = 0.0
    is_start: bool = False


# fmt: off
_TABLE: Final = (
    #       outcome                severity   scope     counts for      cured by a good load
    # steps of a healthy life
    Outcome("listening",           "step"),
    Outcome("running_on_gpu",      "step"),
    Outcome("running_on_cpu",      "step"),     # beside a GPU that is there the GPU point of health degrades
    Outcome("loading",             "step",    "run"),
    Outcome("loaded",              "step",    "run"),
    Outcome("downloading",         "step",    "pull"),

    # a start that fails, a setting that is wrong
    Outcome("port_in_use",         "error",   is_start=True),
    Outcome("port_forbidden",      "error",   is_start=True),
    Outcome("bad_address",         "error",   is_start=True),
    Outcome("home_unset",          "error",   is_start=True),
    Outcome("store_unwritable",    "error"),
    Outcome("start_failed",        "error",   is_start=True),
    Outcome("bad_setting",         "error",   "run",    ENGINE_LIFE_S,  is_cured=True),
    Outcome("setting_ignored",     "warning", "engine", ENGINE_LIFE_S),
    Outcome("setting_unsuited",    "error",   "run",    A_WHILE_S,      is_cured=True),  # for that model
    Outcome("runner_missing",      "error",   "engine", ENGINE_LIFE_S,  is_cured=True),

    # the GPU: looked for once, at the engine's start
    Outcome("discovery_failed",    "warning", "engine", ENGINE_LIFE_S),
    Outcome("cpu_fallback",        "info"),     # as running_on_cpu
    Outcome("gpu_no_access",       "error",   "engine", ENGINE_LIFE_S),
    Outcome("gpu_driver",          "error",   "engine", ENGINE_LIFE_S),
    Outcome("gpu_lost",            "error",   "run",    ENGINE_LIFE_S,  is_cured=True),
    Outcome("gpu_fault",           "error",   "run"),
    Outcome("gpu_unreadable",      "info",    "line"),

    # loads
    Outcome("out_of_memory",       "error",   "run",    A_WHILE_S,      is_cured=True),
    Outcome("memory_tight",        "warning", "line"),
    Outcome("load_failed",         "error",   "run",    A_WHILE_S,      is_cured=True),
    Outcome("load_stalled",        "error",   "run",    A_WHILE_S,      is_cured=True),
    Outcome("model_missing",       "error",   "run",    A_WHILE_S,      is_cured=True),
    Outcome("model_damaged",       "error",   "run",    A_WHILE_S,      is_cured=True),
    Outcome("model_unsupported",   "error",   "run",    A_WHILE_S,      is_cured=True),
    Outcome("model_unreadable",    "warning", lasts_s=2.0),
    Outcome("manifest_damaged",    "warning", lasts_s=2.0),

    Outcome("load_abandoned",      "info",    "run"),      # the client left

    # runners, the server, requests
    Outcome("runner_died",         "error",   "run"),
    Outcome("runner_asserted",     "error",   "run"),
    Outcome("runner_stuck",        "warning", "run"),
    Outcome("panic",               "error",   "run"),
    Outcome("handler_panic",       "warning", "line"),
    Outcome("bad_output",          "warning", "line"),
    Outcome("too_many_requests",   "warning", "line",   60.0),
    Outcome("prompt_truncated",    "info",    "line"),

    # disk and registry: Ollama tries again by itself, and whoever pulls is told
    Outcome("disk_full",           "error",   "pull"),
    Outcome("pull_stalled",        "info",    "pull"),
    Outcome("pull_retried",        "info",    "pull"),
    Outcome("registry_unreachable", "info",   "line"),

    # seen by the daemon, not said by the log
    Outcome("runner_oom_killed",   "error"),
    Outcome("log_unwritable",      "error"),
    Outcome("log_unreadable",      "error"),
)
# fmt: on
OUTCOMES: Final = {outcome.name: outcome for outcome in _TABLE}
