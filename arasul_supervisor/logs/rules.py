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


@dataclass(frozen=True, slots=True)
class Rule:
    """One row: a line that begins like `pattern` means `outcome`. The pattern's groups are the sentence's fields."""

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


FUNCTION: Final = r"[\w.+-]{1,80}(?: +[\w.+-]{1,80})?: (?:.*: )?"  # llama.cpp: `func: …` and `srv  func: …`
RUNNER: Final = r"(?:llama-server|llama runner)"  # ≥ 0.30 and ≤ 0.29
NO_MEMORY: Final = (
    r"(?:out of memory|unable to allocate|failed to allocate|not enough memory|failed to reserve graph"
    r"|requires more system memory)"
)
UNUSABLE: Final = r"(?:permission denied|not a directory|read-only file system|no such file or directory)"
DISK_FULL: Final = "The disk of the model store is full. Free space there."
TOO_LARGE: Final = (
    "A model did not fit into memory. "
    "Unload others, take a smaller model or quantisation, or a shorter context."
)

# fmt: off
# Of both tables the first row that matches wins: the narrower stands above the wider.
# Lines of Ollama's own logger, from behind `msg=` on:
#   time=2026-11-23T07:32:48.871Z level=INFO source=sched.go:511 msg="Load failed" model=… error="…"
SLOG_RULES: Final = (
    # GPU discovery, once at server start: what is missed then stays missed
    _rule("running_on_cpu", "info", r'"inference compute" id=\S+ library=cpu',
          "The engine found no GPU and computes on the CPU."),
    _rule("running_on_gpu", "info", r'"inference compute" id=\S+ library=(?P<library>\w+)',
          "The engine computes on the GPU by {library}."),
    _rule("bad_setting", "error", r'.*error while handling (?:environment variable|argument) \\?"(?P<name>[^"\\]+)',
          "The engine does not understand {name}; until that setting is corrected every load fails."),
    _rule("discovery_failed", "warning", r'"(?:llama-server )?GPU discovery watchdog timed out',
          "GPU discovery did not end in time; this engine runs on the CPU until it is restarted."),
    _rule("discovery_failed", "warning", r'"failure during (?:llama-server )?GPU discovery',
          "GPU discovery failed; this engine runs on the CPU until it is restarted."),
    _rule("bad_setting", "warning", r'"?invalid (?:environment variable|port), using default"?(?P<what>.*)',
          "Ollama ignored a wrong setting and uses its default: {what}"),

    # loads: the verdicts
    _rule("disk_full", "error", r".*no space left on device", DISK_FULL),
    _rule("out_of_memory", "error", r'"(?:Load failed|failed to create server)".*' + NO_MEMORY, TOO_LARGE),
    _rule("load_stalled", "error", r'"Load failed".*timed out waiting for ' + RUNNER + " to start",
          "A model was not loaded in time: its runner stood still."),
    _rule("model_missing", "error", r'"(?:Load failed|couldn\'t (?:read model|open model)).*no such file or directory',
          "A file of a model is missing. Pull that model again."),
    _rule("load_failed", "error", r'"(?:Load failed|failed to create server|failed to load model metadata)"',
          "A model could not be loaded."),
    _rule("model_damaged", "warning", r'"couldn\'t (?:read model metadata|open model file)"',
          "The file of a model cannot be read. Pull that model again."),
    _rule("manifest_damaged", "warning", r'"bad manifest" name=(?P<name>\S+)',
          "The manifest of {name} is damaged. Pull that model again, or remove the manifest file."),
    _rule("loaded", "info", r'"' + RUNNER + r" started in (?P<seconds>[\d.]+) seconds",
          "A model was loaded in {seconds} s."),
    _rule("memory_tight", "warning",
          r'"[^"]*(?:reducing automatic context|evicting all other models) and retrying once',
          "A model did not fit at first; the engine makes room and tries once more."),
    _rule("memory_tight", "warning", r'"[^"]*runtime OOM detected; expiring loaded models',
          "Memory ran out during an answer; the engine unloads models."),

    # runners
    _rule("runner_died", "error", r'"?' + RUNNER + r' process no longer running"? sys=(?P<signal>\d+)',
          "A model runner died (signal {signal}); the next request starts another."),
    _rule("runner_died", "error", r'"' + RUNNER + r' terminated" error="?(?P<why>[^"\n]+)',
          "A model runner ended: {why}."),
    _rule("runner_died", "error", r'"(?:llama-server completion error|post predict)"',
          "A model runner died while it answered; that request failed."),

    _rule("gpu_driver", "error", r".*cudaSetDevice err: (?P<number>\d+)",
          "CUDA refused the GPU with error {number} "
          "(35: driver too old, 801: unsupported, 999: lost after a suspend)."),
    _rule("gpu_unreadable", "info", r'"unable to refresh free memory, using old values"',
          "The engine could not read the free GPU memory; under load this is harmless."),
    _rule("store_unwritable", "error", r'.*[ "](?:mkdir|open|remove|rename) (?P<path>/\S+): (?P<why>' + UNUSABLE + ")",
          "Ollama cannot use {path}: {why}. Give its user the right to read and write there."),
    _rule("out_of_memory", "candidate", r".*(?:cuda\w+ failed: |CUDA error: )" + NO_MEMORY, TOO_LARGE),
)
# All other lines, from their beginning on.
RAW_RULES: Final = (
    # a start that fails: `Error: …`, exit 1, or a panic before the server stands
    _rule("port_in_use", "error", r"Error: listen tcp\d? (?P<address>\S+): bind: address already in use",
          "Ollama cannot listen on {address}: another program holds it. "
          "Stop that program, or set OLLAMA_HOST to another port."),
    _rule("bad_address", "error", r"Error: listen tcp\d? (?P<address>\S+): bind: cannot assign requested address",
          "Ollama cannot listen on {address}: it is no address of this machine. "
          "Set OLLAMA_HOST to one, or to 0.0.0.0."),
    _rule("bad_address", "error", r"Error: listen tcp\d?: lookup (?P<name>\S+?)(?: on \S+)?: (?P<why>.+)",
          "Ollama cannot listen on {name}: {why}. Set OLLAMA_HOST to an address of this machine."),
    _rule("port_forbidden", "error", r"Error: listen tcp\d? (?P<address>\S+): bind: permission denied",
          "Ollama may not listen on {address}: ports below 1024 need a privilege. Set OLLAMA_HOST to a higher port."),
    _rule("home_unset", "error", r"(?:Error|panic): \$HOME is not defined",
          "Ollama needs HOME. Set it to a folder that its user may write, for its keys and models."),
    _rule("disk_full", "error", r"Error: .*no space left on device", DISK_FULL),
    _rule("store_unwritable", "error",
          r"Error: (?:could not create directory )?(?P<what>\w+) (?P<path>[^:]+): (?P<why>" + UNUSABLE + ")",
          "Ollama cannot use {path} ({what}: {why}). "
          "Give its user the right to write there, or set OLLAMA_MODELS or HOME to another folder."),
    _rule("start_failed", "error", r"Error: (?P<why>.+)",
          "Ollama refused to start: {why}"),

    # the end of the server (or, ≤ 0.29, of a runner: see which pid is gone)
    _rule("panic", "error", r"(?:panic|fatal error): (?P<why>.+)",
          "Ollama crashed: {why}"),
    _rule("handler_panic", "warning", r"(?:\S+ - \S+ )?\[Recovery\] .*panic recovered",
          "Ollama crashed inside one request and went on; that request failed."),

    # settings that leave a server which looks healthy and fails every load
    _rule("bad_setting", "error", r'.{0,80}error while handling (?:environment variable|argument) "(?P<name>[^"]+)"',
          "The engine does not understand {name}; until that setting is corrected every load fails."),
    _rule("bad_setting", "warning",
          r"\S+ \S+ \S+ WARN invalid (?:environment variable|port), using default(?P<what>.*)",
          "Ollama ignored a wrong setting and uses its default: {what}"),

    # GPU
    _rule("gpu_no_access", "error",
          r".{0,80}(?:NvRmMemInitNvmap failed with Permission denied|Memory Manager Not supp)",
          "The engine may not use the GPU: its user is not in the group video, or the container lacks the devices."),
    _rule("out_of_memory", "candidate", r".{0,80}NvMapMemAllocInternalTagged: .*error 12", TOO_LARGE),
    _rule("out_of_memory", "candidate",
          r"(?:" + FUNCTION + r"(?:cuda\w+ failed: )?|CUDA error: )" + NO_MEMORY, TOO_LARGE),
    _rule("gpu_lost", "error",
          r"(?:ggml_cuda_init: failed to initialize CUDA|CUDA error): "
          r"(?P<why>no CUDA-capable device.*|device (?:lost|not available).*|unknown error.*)",
          "The GPU is gone for the engine: {why}."),
    _rule("gpu_driver", "error", r"ggml_cuda_init: failed to initialize CUDA: (?P<why>.+)",
          "CUDA did not start: {why}. Driver and engine may not fit together."),
    _rule("gpu_driver", "error", r".{0,80}cudaSetDevice err: (?P<number>\d+)",
          "CUDA refused the GPU with error {number} "
          "(35: driver too old, 801: unsupported, 999: lost after a suspend)."),
    _rule("gpu_fault", "error", r"CUDA error: (?P<why>.+)",
          "The GPU failed while computing: {why}."),

    # reasons of a model file, before the verdict of the load
    _rule("model_unsupported", "error",
          FUNCTION + r"error loading model: unknown model architecture: '(?P<name>[^']*)'",
          "The engine does not know the model architecture {name}. Update Ollama."),
    _rule("model_damaged", "error", FUNCTION + r"error (?:loading model: |reading tensor)(?P<why>.*)",
          "A model file is damaged or does not fit this engine: {why}. Pull that model again."),
    _rule("runner_asserted", "error", r"\S+:\d+: GGML_ASSERT\((?P<what>.*)\) failed",
          "A model runner met a fault of its own ({what}) and ended."),

    # requests
    _rule("bad_output", "warning", r"common_chat_peg_parse: unparsed ",
          "A model's answer was not understood; that request failed."),
)
# [GIN] 2026/11/23 - 07:32:49 | 503 | 63.3µs | 127.0.0.1 | POST "/api/chat": a client writes the path, so nothing
# behind the status is ever looked at.
GIN_RULES: Final = (
    _rule("too_many_requests", "warning", r"\[GIN\] [^|]*\| +503 \|",
          "The engine's queue is full; requests are refused."),
)

# Healthy boxes print these; none may ever count (facts/ollama.md §6.4).
FALSE_ALARMS: Final = tuple(re.compile(pattern) for pattern in (
    r"consecutive_failures=0",
    r'msg="model (?:recommendations refresh|show cloud cache hydration) failed',
    r"model is missing tokenizer\.chat_template|requested context size too large for model",
    r"error while trying to fit params|failed to fit params|retrying without pipeline parallelism",
    r"AMX is not ready to be used|failed to find ggml_backend_init",
    r'msg="(?:aborting completion request due to client closing|client connection closed before )',
    r'context canceled"?\s*$',
    r'msg="request failed: (?!.*no space left on device)',
    r'msg="\S+ part \d+ (?:attempt \d+ failed(?!.*no space left on device)|stalled)',
    r'msg="(?:finished request signal received after model unloaded|Failed to acquire semaphore)',
    r"this can be a security risk",
))
# fmt: on
# Licence, template and vocabulary text of a model: never looked into.
METADATA: Final = ("llama_model_loader: - ", "print_info: ", "example_format: ")
SLOG: Final = re.compile(r"time=\S+ level=\S+ source=\S+ msg=")

LOOKED_AT_CHARS: Final = 8 * 1024  # of a longer line; a client can write long ones

START_OUTCOMES: Final = frozenset(
    {"port_in_use", "bad_address", "port_forbidden", "home_unset", "disk_full", "store_unwritable"}
)
LAST_RESORTS: Final = ("start_failed", "panic")


def classify(text: str) -> Match | None:
    """What this line says, or None for a line that says nothing of note."""
    text = without_colours(text[:LOOKED_AT_CHARS])
    if text.startswith(METADATA):
        return None
    slog = SLOG.match(text)
    if slog:
        return _first_match(SLOG_RULES, text, slog.end())
    return _first_match(GIN_RULES if text.startswith("[GIN] ") else RAW_RULES, text, 0)


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


def _first_match(rules: Sequence[Rule], text: str, start: int) -> Match | None:
    for rule in rules:
        found = rule.pattern.match(text, start)
        if found:
            if any(alarm.search(text) for alarm in FALSE_ALARMS):
                return None
            fields = {name: value.strip() for name, value in found.groupdict(default="?").items()}
            return Match(rule.outcome, rule.severity, rule.sentence.format_map(fields), fields)
    return None
