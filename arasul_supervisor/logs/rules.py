"""What a line of Ollama's log means: one table from pattern to outcome. Pure.

The outcome decides, never the words "error" or "fatal" (facts/ollama.md §6). Severities: `info` marks a step of a
healthy life; `candidate` counts only when a verdict follows it (`cudaMalloc failed` while layouts are tried is no
fault); `warning` asks somebody to look; `error` says that something was lost.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from arasul_supervisor.logs.levels import without_colours

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Severity = Literal["info", "candidate", "warning", "error"]

SLOG: Final = r"^time=\S+ level=\S+ source=\S+ msg="
RAW: Final = r"^[\w.+-]+(?: +[\w.+-]+)?: (?:.*: )?"  # llama.cpp: `func: …` and `srv  func: …`
NO_MEMORY: Final = (
    r"(?:out of memory|unable to allocate|failed to allocate|not enough memory|failed to reserve graph"
    r"|requires more system memory)"
)
UNUSABLE: Final = r"permission denied|not a directory|read-only file system|no such file or directory"


@dataclass(frozen=True, slots=True)
class Rule:
    """One row: a line like `pattern` means `outcome`. The pattern's groups are the fields of the sentence."""

    outcome: str
    severity: Severity
    pattern: re.Pattern[str]
    sentence: str


@dataclass(frozen=True, slots=True)
class Match:
    """What one line says."""

    outcome: str
    severity: Severity
    sentence: str
    fields: Mapping[str, str] = field(default_factory=dict)


def _rule(outcome: str, severity: Severity, pattern: str, sentence: str) -> Rule:
    return Rule(outcome, severity, re.compile(pattern), sentence)


# fmt: off
# The first row that matches wins: the narrower stands above the wider.
RULES: Final = (
    # a start that fails: `Error: …`, exit 1, or a panic before the server stands
    _rule("port_in_use", "error", r"^Error: listen tcp\d? (?P<address>\S+): bind: address already in use",
          "Ollama cannot listen on {address}: another program holds it. "
          "Stop that program, or set OLLAMA_HOST to another port."),
    _rule("bad_address", "error", r"^Error: listen tcp\d? (?P<address>\S+): bind: cannot assign requested address",
          "Ollama cannot listen on {address}: it is no address of this machine. "
          "Set OLLAMA_HOST to one, or to 0.0.0.0."),
    _rule("bad_address", "error", r"^Error: listen tcp\d?: lookup (?P<name>\S+?)(?: on \S+)?: (?P<why>.+)",
          "Ollama cannot listen on {name}: {why}. Set OLLAMA_HOST to an address of this machine."),
    _rule("port_forbidden", "error", r"^Error: listen tcp\d? (?P<address>\S+): bind: permission denied",
          "Ollama may not listen on {address}: ports below 1024 need a privilege. Set OLLAMA_HOST to a higher port."),
    _rule("home_unset", "error", r"^(?:Error|panic): \$HOME is not defined",
          "Ollama needs HOME. Set HOME to a folder that its user may write, for its keys and models."),
    _rule("disk_full", "error", r"^Error: .*no space left on device",
          "Ollama cannot start: its disk is full. Free space in the model store."),
    _rule("store_unwritable", "error",
          r"^Error: (?:could not create directory )?(?P<what>\w+) (?P<path>[^:]+): (?P<why>" + UNUSABLE + r")",
          "Ollama cannot use {path} ({what}: {why}). "
          "Give its user the right to write there, or set OLLAMA_MODELS or HOME to another folder."),
    _rule("start_failed", "error", r"^Error: (?P<why>.+)",
          "Ollama refused to start: {why}"),

    # the end of the server (or, ≤ 0.29, of a runner: see which pid is gone)
    _rule("panic", "error", r"^(?:panic|fatal error): (?P<why>.+)",
          "Ollama crashed: {why}"),
    _rule("handler_panic", "warning", r"^(?:\S+ \S+ )?\[Recovery\] .*panic recovered",
          "Ollama crashed inside one request and went on; that request failed."),

    # settings that leave a server which looks healthy and fails every load
    _rule("bad_setting", "error", r'error while handling environment variable "(?P<name>[^"]+)"',
          "The engine does not understand {name}; until it is corrected every load fails."),
    _rule("bad_setting", "error", r'error while handling argument "(?P<name>[^"]+)"',
          "The engine does not understand {name}; until that setting is corrected every load fails."),
    _rule("bad_setting", "warning", r'(?:invalid environment variable|WARN invalid port), using default"?(?P<what>.*)',
          "Ollama ignored a wrong setting and uses its default:{what}"),

    # GPU discovery, once at server start: what is missed then stays missed
    _rule("discovery_failed", "warning", SLOG + r'"(?:llama-server )?GPU discovery watchdog timed out',
          "GPU discovery did not end in time; this engine runs on the CPU until it is restarted."),
    _rule("discovery_failed", "warning", SLOG + r'"failure during (?:llama-server )?GPU discovery"(?P<what>.*)',
          "GPU discovery failed; this engine runs on the CPU until it is restarted."),
    _rule("running_on_cpu", "info", SLOG + r'"inference compute" id=\S+ library=cpu',
          "The engine found no GPU and computes on the CPU."),
    _rule("running_on_gpu", "info", SLOG + r'"inference compute" id=\S+ library=(?P<library>\w+)',
          "The engine computes on the GPU by {library}."),

    # loads: the verdict lines
    _rule("disk_full", "error", SLOG + r".*no space left on device",
          "The disk of the model store is full. Free space there."),
    _rule("out_of_memory", "error", SLOG + r'"(?:Load failed|failed to create server)".*' + NO_MEMORY,
          "A model did not fit into memory. "
          "Unload others, take a smaller model or quantisation, or a shorter context."),
    _rule("load_stalled", "error",
          SLOG + r'"Load failed".*timed out waiting for (?:llama-server|llama runner) to start',
          "A model was not loaded in time: its runner stood still."),
    _rule("model_missing", "error",
          SLOG + r'"(?:Load failed|couldn\'t (?:read model metadata|open model file))".*no such file or directory',
          "A file of a model is missing. Pull that model again."),
    _rule("load_failed", "error", SLOG + r'"(?:Load failed|failed to create server|failed to load model metadata)"',
          "A model could not be loaded."),
    _rule("model_damaged", "warning", SLOG + r'"(?:couldn\'t read model metadata|couldn\'t open model file)"',
          "The file of a model cannot be read. Pull that model again."),
    _rule("manifest_damaged", "warning", SLOG + r'"bad manifest" name=(?P<name>\S+)',
          "The manifest of {name} is damaged. Pull that model again, or remove the manifest file."),
    _rule("loaded", "info", SLOG + r'"llama(?:-server| runner) started in (?P<seconds>[\d.]+) seconds"',
          "A model was loaded in {seconds} s."),
    _rule("memory_tight", "warning", r"(?:reducing automatic context|evicting all other models) and retrying once",
          "A model did not fit at first; the engine makes room and tries once more."),
    _rule("memory_tight", "warning", r"runtime OOM detected; expiring loaded models",
          "Memory ran out during an answer; the engine unloads models."),

    # runners
    _rule("runner_died", "error",
          SLOG + r'"?(?:llama-server|llama runner) process no longer running"? sys=(?P<signal>\d+)',
          "A model runner died (signal {signal}); the next request starts another."),
    _rule("runner_died", "error", SLOG + r'"(?:llama-server|llama runner) terminated" error="?(?P<why>[^"\n]+)',
          "A model runner ended: {why}."),
    _rule("runner_died", "error", SLOG + r'"(?:llama-server completion error|post predict)"',
          "A model runner died while it answered; that request failed."),
    _rule("runner_asserted", "error", r"^\S+:\d+: GGML_ASSERT\((?P<what>.*)\) failed",
          "A model runner met a fault of its own ({what}) and ended."),

    # GPU
    _rule("out_of_memory", "candidate", RAW + r"(?:cuda\w+ failed: |CUDA error: )?" + NO_MEMORY,
          "The GPU had no memory left for a model."),
    _rule("out_of_memory", "candidate", r"^CUDA error: out of memory",
          "The GPU had no memory left for a model."),
    _rule("out_of_memory", "candidate", r"NvMapMemAllocInternalTagged: .*error 12",
          "The Jetson had no memory left for a model."),
    _rule("gpu_no_access", "error",
          r"NvRmMemInitNvmap failed with Permission denied|^.{0,80}Memory Manager Not supported",
          "The engine may not use the GPU: its user is not in the group video, or the container lacks the devices."),
    _rule("gpu_lost", "error",
          r"^(?:ggml_cuda_init: failed to initialize CUDA|CUDA error): "
          r"(?P<why>no CUDA-capable device.*|.*device.* (?:lost|not available).*|unknown error.*)",
          "The GPU is gone for the engine: {why}."),
    _rule("gpu_driver", "error", r"^ggml_cuda_init: failed to initialize CUDA: (?P<why>.+)",
          "CUDA did not start: {why}. Driver and engine may not fit together."),
    _rule("gpu_driver", "error", r"cudaSetDevice err: (?P<number>\d+)",
          "CUDA refused the GPU with error {number} "
          "(35: driver too old, 801: unsupported, 999: lost after a suspend)."),
    _rule("gpu_fault", "error", r"^CUDA error: (?P<why>.+)",
          "The GPU failed while computing: {why}."),
    _rule("gpu_unreadable", "info", SLOG + r'"unable to refresh free memory, using old values"',
          "The engine could not read the free GPU memory; under load this is harmless."),

    # raw reasons of a model file, before the verdict of the load
    _rule("model_unsupported", "error", RAW + r"error loading model: unknown model architecture: '(?P<name>[^']*)'",
          "The engine does not know the model architecture {name}. Update Ollama."),
    _rule("model_damaged", "error", RAW + r"error loading model: (?P<why>.+)",
          "A model file is damaged or does not fit this engine: {why}. Pull that model again."),
    _rule("model_damaged", "error", RAW + r"error reading tensor",
          "A model file cannot be read to its end. Pull that model again."),

    # requests
    _rule("too_many_requests", "warning", r"^\[GIN\] [^|]*\| +503 \|",
          "The engine's queue is full; requests are refused."),
    _rule("bad_output", "warning", r"^common_chat_peg_parse: unparsed ",
          "A model's answer was not understood; that request failed."),
)

# Healthy boxes print these; none may ever count (facts/ollama.md §6.4).
FALSE_ALARMS: Final = tuple(re.compile(pattern) for pattern in (
    r"consecutive_failures=0",
    SLOG + r'"model (?:recommendations refresh|show cloud cache hydration) failed',
    r"model is missing tokenizer\.chat_template|requested context size too large for model",
    r"encountered an error while trying to fit params|^\w+: failed to fit params|retrying without pipeline parallelism",
    r"AMX is not ready to be used|failed to find ggml_backend_init",
    r"aborting completion request due to client closing|client connection closed before .* finished loading",
    r'error="?(?:context canceled|.*: context canceled"?$)',
    SLOG + r'"request failed: ',
    r"part \d+ (?:attempt \d+ failed(?!.*no space left on device)|stalled)",
    SLOG + r'"(?:finished request signal received after model unloaded|Failed to acquire semaphore)',
    r"this can be a security risk",
))
# Licence, template and vocabulary text of a model: never looked into.
METADATA: Final = re.compile(r"^(?:llama_model_loader: - |print_info: |example_format: )")
# fmt: on

START_OUTCOMES: Final = frozenset(
    {"port_in_use", "bad_address", "port_forbidden", "home_unset", "disk_full", "store_unwritable"}
)
LAST_RESORTS: Final = ("start_failed", "panic")


def classify(text: str) -> Match | None:
    """What this line says, or None for a line that says nothing of note."""
    text = without_colours(text)
    if METADATA.match(text) or any(alarm.search(text) for alarm in FALSE_ALARMS):
        return None
    for rule in RULES:
        found = rule.pattern.search(text)
        if found:
            fields = {name: (value or "").strip() for name, value in found.groupdict().items()}
            return Match(rule.outcome, rule.severity, rule.sentence.format_map(fields), fields)
    return None


def explain_exit(lines: Sequence[str]) -> tuple[str, str] | None:
    """Why a start failed, as its last lines say it: outcome and a sentence with what to do; None when they do not.

    :param lines: the last lines of the generation, oldest first
    """
    said = [match for line in reversed(lines) if (match := classify(line))]
    for wanted in (START_OUTCOMES, *({outcome} for outcome in LAST_RESORTS)):
        for match in said:
            if match.outcome in wanted:
                return match.outcome, match.sentence
    return None
