"""The table of all settings, as data: variable, place in `Settings`, kind, default, effect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from arasul_supervisor.settings.kinds import (
    ALIASES,
    BROWSER_ORIGINS,
    ENGINE_BIND,
    ENGINE_ORIGINS,
    EXISTING_FOLDER,
    FILE,
    FOLDER,
    FRACTION,
    GPU_LAYERS,
    HOST,
    KEEP_ALIVE,
    MODEL,
    PORT,
    PROGRAM,
    SIZE,
    SWITCH,
    Kind,
    duration,
    one_of,
    whole,
)
from arasul_supervisor.settings.places import default_log_file, default_state_dir, find_engine

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True, slots=True)
class Field:
    """One setting.

    `default` is written as a user would write it; a callable looks around and gives the value with its
    origin; None leaves the setting unset. `engine_variable` is what the engine gets, with the value as shown.
    """

    variable: str
    attribute: str
    kind: Kind[Any]  # Any: a table of kinds of different types; a test holds them against Settings
    default: str | Callable[[Mapping[str, str]], tuple[object, str]] | None
    effect: str
    engine_variable: str | None = None


# Read by the command line (ARASUL_URL) or set by us for our own child; known, but no setting of the daemon.
OTHER_KNOWN_VARIABLES: Final = ("ARASUL_URL", "ARASUL_MARKER")

FIELDS: Final = (
    Field(
        "LLM_MODEL", "default_model", MODEL, "qwen3:14b-q8",
        "default model of session reset, health and `pull` without a name; never loaded at first launch",
    ),
    Field(
        "LLM_CONTEXT_LENGTH", "context_length", whole(1, (1 << 31) - 1), "8192",
        "tokens of context for each request", "OLLAMA_CONTEXT_LENGTH",
    ),
    Field(
        "LLM_GPU_LAYERS", "gpu_layers", GPU_LAYERS, None,
        "layers on the GPU, taken literally; unset means all that fit; Ollama 0.30 and newer apply it"
        " to every load, 0.29 and older only to loads made by this daemon", "LLAMA_ARG_N_GPU_LAYERS",
    ),
    Field(
        "LLM_KEEP_ALIVE_SECONDS", "keep_alive_s", KEEP_ALIVE, "300",
        "how long an idle model stays loaded; 0 unloads at once, negative keeps for ever",
        "OLLAMA_KEEP_ALIVE",
    ),
    Field(
        "OLLAMA_STARTUP_TIMEOUT", "startup_timeout_s", duration(0.1, 86400), "120",
        "time from the spawn to the engine's first answer; past it the start has failed",
    ),
    Field("OLLAMA_HOST", "engine_bind", ENGINE_BIND, "0.0.0.0", "the engine's bind", "OLLAMA_HOST"),
    Field(
        "OLLAMA_ORIGINS", "origins", ENGINE_ORIGINS, "*",
        "browser origins that may call the engine", "OLLAMA_ORIGINS",
    ),
    Field(
        "OLLAMA_GPU_MEMORY_FRACTION", "gpu_memory_fraction", FRACTION, "0.8",
        "share of the GPU's total memory that the engine may plan with; the rest, at least 512 MiB, is left"
        " free by LLAMA_ARG_FIT_TARGET on Ollama 0.30 and newer, by OLLAMA_GPU_OVERHEAD on 0.29 and older;"
        " nothing is set without a GPU",
    ),
    Field("ARASUL_HOST", "host", HOST, "127.0.0.1", "management bind"),
    Field("ARASUL_PORT", "port", PORT, "11436", "management port"),
    Field(
        "ARASUL_ORIGINS", "allowed_origins", BROWSER_ORIGINS, "",
        "browser origins that may call the daemon's own endpoints",
    ),
    Field("ARASUL_OLLAMA", "engine_binary", PROGRAM, find_engine, "the engine that is run"),
    Field("ARASUL_LOG_FILE", "log_file", FILE, default_log_file, "the engine's log"),
    Field(
        "ARASUL_LOG_MAX_BYTES", "log_max_bytes", SIZE, "50MiB",
        "size at which the engine's log is rotated; 0 leaves rotation to others",
    ),
    Field("ARASUL_LOG_KEEP", "log_keep", whole(0, 1000), "3", "rotated logs that are kept"),
    Field(
        "ARASUL_LOG_FORMAT", "log_format", one_of("auto", "console", "json"), "auto",
        "form of the daemon's own log on stdout; auto is console on a terminal, JSON otherwise",
    ),
    Field(
        "ARASUL_LOG_LEVEL", "log_level", one_of("debug", "info", "warning", "error"), "info",
        "lowest level of the daemon's own log",
    ),
    Field(
        "ARASUL_STOP_TIMEOUT", "stop_timeout_s", duration(0, 86400), "7",
        "time the engine has between SIGTERM and SIGKILL",
    ),
    Field(
        "ARASUL_STABLE_SECONDS", "stable_s", duration(0), "10",
        "a run shorter than this is a short life, like a failed start",
    ),
    Field(
        "ARASUL_BACKOFF_BASE", "backoff_base_s", duration(0.001), "0.5",
        "wait after the second short life in a row; doubles with each further one",
    ),
    Field("ARASUL_BACKOFF_MAX", "backoff_max_s", duration(0.001), "30", "longest wait between two starts"),
    Field(
        "ARASUL_BACKOFF_RESET", "backoff_reset_s", duration(0), "60",
        "time of running after which short lives are forgotten",
    ),
    Field(
        "ARASUL_START_RETRIES", "start_retries", whole(1, 1_000_000), "5",
        "short lives in a row before giving up",
    ),
    Field(
        "ARASUL_ON_GIVE_UP", "on_give_up", one_of("retry", "exit", "hold"), "retry",
        "retry goes on at the slowest pace, exit leaves with code 70, hold waits for an operator",
    ),
    Field(
        "ARASUL_HEALTH_GRACE", "health_grace_s", duration(0), "300",
        "time in which an engine that is not ready yet counts as starting",
    ),
    Field(
        "ARASUL_STATE_DIR", "state_dir", FOLDER, default_state_dir,
        "lock, pull journal, incidents, cached facts",
    ),
    Field(
        "ARASUL_ALIASES", "aliases", ALIASES, "",
        "model names that stand for another one, beside the built-in ones",
    ),
    Field("ARASUL_PULLS", "pulls", whole(1, 64), "2", "pulls that run at once; others queue"),
    Field(
        "ARASUL_PULL_STALL", "pull_stall_s", duration(1, 86400), "25",
        "time without a new byte after which a download is taken up anew; Ollama itself acts after 30 s, and loses"
        " what it has of the part",
    ),
    Field(
        "ARASUL_HEAL", "heal", one_of("off", "observe", "act"), "act",
        "whether faults are cured, only named, or left alone",
    ),
    Field(
        "ARASUL_STUCK_SECONDS", "stuck_s", duration(1, 86400), "60",
        "time for which a model runner must stand still, by two witnesses, before it is called stuck",
    ),
    Field(
        "ARASUL_SILENT_SECONDS", "silent_s", duration(1, 86400), "15",
        "time for which the engine or a runner must not answer, and not work either, before it is called frozen",
    ),
    Field(
        "ARASUL_LOAD_STUCK_SECONDS", "load_stuck_s", duration(1, 86400), "120",
        "time for which a load must neither read nor compute before it is called stuck",
    ),
    Field(
        "ARASUL_LOW_MEMORY_SECONDS", "low_memory_s", duration(1, 86400), "30",
        "time for which memory must be short, with no load under way, before models are unloaded",
    ),
    Field("ARASUL_PROBE", "probe", SWITCH, "off", "allows the one-token probe of an idle loaded model"),
    Field("ARASUL_RESTORE", "restore", SWITCH, "on", "after a crash, loads again what was loaded"),
    Field(
        "ARASUL_GPU", "gpu", one_of("auto", "nvml", "tegra", "none"), "auto",
        "source of the GPU's figures",
    ),
    Field("ARASUL_JTOP", "jtop", SWITCH, "off", "jetson-stats as a source of figures"),
    Field("ARASUL_SYSROOT", "sysroot", EXISTING_FOLDER, "/", "root of the telemetry's file paths"),
)  # fmt: skip
