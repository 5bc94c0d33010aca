"""How the lines of Ollama's log say what befell it: one table from pattern to outcome. Pure.

What an outcome means stands in outcomes.py. The outcome decides, never the words "error" or "fatal" (facts/ollama.md
§6). A rule that `waits` counts only beside another line: a reason when a verdict follows it, for `cudaMalloc failed`
while layouts are tried is no fault; the end of a runner when a reason stands before it, for its verdict follows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Rule:
    """One row: a line that begins like `pattern` tells of `outcome`. The pattern's groups are the sentence's fields."""

    outcome: str
    pattern: re.Pattern[str]
    sentence: str
    waits: bool = False
    ends: bool = False  # the last word on a load


def _rule(outcome: str, pattern: str, sentence: str = "", *, waits: bool = False) -> Rule:
    return Rule(outcome, re.compile(pattern), sentence, waits, ends=pattern.startswith(LOAD_FAILED))


FUNCTION: Final = r"[\w.+-]{1,80}(?: +[\w.+-]{1,80})?: (?:.*: )?"  # llama.cpp: `func: …` and `srv  func: …`
RUNNER: Final = r"(?:llama-server|llama runner)"  # ≥ 0.30 and ≤ 0.29
MODEL: Final = r'(?: model="?(?P<model>[^"\s]+))?'
ERROR: Final = (
    rf'(?:.*? error="?(?:{RUNNER} process has terminated: |read GGUF metadata \\"[^"]*": )?'
    r'(?P<why>(?:\\.|[^"\\])+))?'
)
LOAD_FAILED: Final = (
    r'"(?:Load failed|failed to create server|failed to load model metadata|error loading llama server)"'
)
NO_MEMORY: Final = (
    r"(?:out of memory|std::bad_alloc|insufficient memory|unable to allocate|failed to allocate|not enough memory"
    r"|failed to reserve graph|requires more system memory|cannot be allocated)"
)
BROKEN_FILE: Final = r"(?:error loading model|read GGUF metadata|unexpected EOF|offset\+size)"
FORBIDDEN: Final = r"(?:permission denied|not a directory|read-only file system)"
NO_SPACE: Final = "no space left on device"

DISK_FULL: Final = "The disk of the model store is full. Free space there."
CLIENT_LEFT: Final = "A client left while its model was being loaded."
DIED: Final = "A model runner died ({signal}); the next request starts another."
ASSERTED: Final = "A model runner met a fault of its own ({what}) and ended."
TOO_LARGE: Final = (
    "A model did not fit into memory. "
    "Unload others, take a smaller model or quantisation, or a shorter context."
)
DAMAGED: Final = "A model file is damaged or does not fit this engine: {why}. Pull that model again."
NOT_UNDERSTOOD: Final = (
    "The engine does not understand {name}; until that setting is corrected every load fails."
)
CACHE_TYPE: Final = (
    r'error while handling argument \\?"--cache-type-[kv]\\?": Unsupported cache type: (?P<type>\w+)'
)
NO_CACHE_TYPE: Final = NOT_UNDERSTOOD.replace("{name}", "OLLAMA_KV_CACHE_TYPE={type}")
IGNORED: Final = "Ollama ignored a wrong setting and uses its default: {what}"
NO_RUNNER: Final = "Ollama finds no llama-server, so no model can be loaded. Install Ollama anew."
CUDA_REFUSED: Final = (
    "CUDA refused the GPU with error {code} "
    "(35: driver too old, 801: unsupported, 999: lost after a suspend)."
)

# fmt: off
# Of each table the first row that matches wins: the narrower stands above the wider.
# Lines of Ollama's own logger, from behind `msg=` on:
#   time=2026-11-23T07:32:48.871Z level=INFO source=sched.go:511 msg="Load failed" model=… error="…"
SLOG_RULES: Final = (
    # steps of a healthy life, at the top for there are the most of them
    _rule("loading", r'"starting (?:llama-server|runner)" cmd=.*? --model (?P<model>\S+) --port (?P<port>\d+)'),
    _rule("loaded", rf'"{RUNNER} started in (?P<seconds>[\d.]+) seconds'),
    _rule("listening", r'"Listening on (?P<address>\S+) \(version'),

    # GPU discovery, once at server start: what is missed then stays missed
    _rule("running_on_cpu", r'"inference compute" id=\S+ library=cpu'),
    _rule("running_on_gpu", r'"inference compute" id=(?P<device>\S+) library=(?P<library>\w+)'),
    _rule("runner_missing", r".*llama-server binary not found", NO_RUNNER),
    _rule("discovery_failed",  # canceled: by an end of the server amid its start
          r'"(?:llama-server )?GPU discovery watchdog timed out(?!.*context canceled)',
          "GPU discovery did not end in time; this engine runs on the CPU until it is restarted."),
    _rule("discovery_failed", rf'"failure during (?:llama-server )?GPU discovery"{ERROR}',
          "GPU discovery failed ({why}); this engine runs on the CPU until it is restarted."),
    _rule("cpu_fallback", r'"dropping integrated GPU',
          "Ollama leaves the integrated GPU out. Set OLLAMA_IGPU_ENABLE=1 to use it."),
    _rule("cpu_fallback", r'"skipping CUDA device — (?P<why>[^"]+)"(?:.*? description="?(?P<device>[^"]+))?',
          "Ollama leaves a GPU out ({device}): {why}. Its build has no code for this GPU."),
    _rule("gpu_driver", r'"(?P<what>(?:NVIDIA|AMD) driver)(?: is)? too old"?(?:.*? required_driver="(?P<need>[^"]+))?',
          "{what} too old for this Ollama ({need} is needed); it computes on the CPU. Update the driver."),
    _rule("gpu_driver", r".*cudaSetDevice err: (?P<code>\d+)", CUDA_REFUSED),
    _rule("gpu_unreadable", r'"unable to refresh free memory, using old values"',
          "The engine could not read the free GPU memory; under load this is harmless."),

    # settings
    _rule("bad_setting", rf".*{CACHE_TYPE}", NO_CACHE_TYPE),
    _rule("bad_setting", r'.*error while handling (?:environment variable|argument) \\?"(?P<name>[^"\\]+)',
          NOT_UNDERSTOOD),
    _rule("setting_unsuited", rf"{LOAD_FAILED}(?=.*quantized V cache requires flash_attn){MODEL}",
          "A quantised OLLAMA_KV_CACHE_TYPE needs flash attention: set OLLAMA_FLASH_ATTENTION=1, or take no type."),
    _rule("setting_unsuited", rf'{LOAD_FAILED}.*[KV] cache type (?P<type>\w+) (?P<why>[^"\\]+)',
          "OLLAMA_KV_CACHE_TYPE={type} does not suit this model ({why}); take another, or none."),
    _rule("setting_ignored", r'"invalid environment variable, using default"(?P<what> key=(?P<name>\w+).*)', IGNORED),
    _rule("setting_ignored", r'"?invalid port, using default"?(?P<what>.*)', IGNORED),

    # the store and pulls
    _rule("disk_full", rf'"(?P<blob>[0-9a-f]{{12}}) part .*{NO_SPACE}', DISK_FULL),
    _rule("disk_full", rf".*{NO_SPACE}", DISK_FULL),
    _rule("downloading", r'"downloading (?P<blob>[0-9a-f]{12}) in \d+'),
    _rule("pull_stalled", r'"(?P<blob>[0-9a-f]{12}) part \d+ stalled; retrying',
          "A download stood still ({blob}); Ollama asks for that part again."),
    _rule("pull_retried", r'"(?P<blob>[0-9a-f]{12}) part \d+ attempt \d+ failed: (?P<why>.*), retrying in',
          "A part of a download or upload failed ({blob}: {why}); Ollama tries again."),
    _rule("registry_unreachable", r'"request failed: (?P<why>(?:\\.|[^"\\])+)',
          "A registry could not be reached: {why}"),
    _rule("store_unwritable",
          rf'.*[ "](?:mkdir|open|remove|rename) (?P<path>(?!/(?:sys|proc|dev)/)/\S+): (?P<why>{FORBIDDEN})',
          "Ollama cannot use {path}: {why}. Give its user the right to read and write there."),

    # loads: how one begins and what comes of it
    _rule("load_abandoned", r'"client connection closed before (?:llama-server|server) finished loading', CLIENT_LEFT),
    _rule("load_abandoned", r'"do load request" error=.*context canceled"?\s*$', CLIENT_LEFT),
    _rule("load_abandoned", rf'{LOAD_FAILED}(?=.*context canceled"?\s*$){MODEL}', CLIENT_LEFT),
    _rule("out_of_memory", rf"{LOAD_FAILED}(?=.*{NO_MEMORY}){MODEL}", TOO_LARGE),
    _rule("load_stalled", rf"{LOAD_FAILED}(?=.*timed out waiting for {RUNNER} to start){MODEL}",
          "A model was not loaded in time: its runner stood still."),
    _rule("model_missing", rf"{LOAD_FAILED}(?=.*no such file or directory){MODEL}",
          "A file of a model is missing. Pull that model again."),
    _rule("runner_died", rf"{LOAD_FAILED}(?=.*process has terminated: (?P<signal>signal: [\w ]+)){MODEL}",
          "A model runner died ({signal}) while it loaded a model."),
    _rule("model_unsupported", rf"{LOAD_FAILED}(?=.*unknown model architecture: '(?P<name>[^']*)'){MODEL}",
          "The engine does not know the model architecture {name}. Update Ollama."),
    _rule("model_damaged", rf"{LOAD_FAILED}(?=.*{BROKEN_FILE}){MODEL}{ERROR}", DAMAGED),
    _rule("load_failed", rf"{LOAD_FAILED}{MODEL}{ERROR}",
          "A model could not be loaded: {why}"),
    _rule("model_damaged", r'"error reading tensor".*? error="?(?P<why>[^"]+)', DAMAGED, waits=True),
    _rule("model_unreadable", rf'"couldn\'t (?:read model metadata|open model file)"(?={ERROR})'
          r'(?:.*?(?P<model>/blobs/[^":\s]+))?',
          "The file of a model cannot be read ({why}). Pull that model again."),
    _rule("manifest_damaged", r'"bad manifest(?: filepath| config)?" name=(?P<name>\S+)',
          "The manifest of {name} is damaged. Pull that model again, or remove the manifest file."),
    _rule("manifest_damaged", r'"corrupt manifests detected[^"]*" error="(?P<name>\S+)',
          "The manifest of {name} is damaged. Pull that model again, or remove the manifest file."),
    _rule("memory_tight", r'"[^"]*(?:reducing automatic context|evicting all other models) and retrying once',
          "A model did not fit at first; the engine makes room and tries once more."),
    _rule("memory_tight", r'"[^"]*runtime OOM detected; expiring loaded models',
          "Memory ran out during an answer; the engine unloads models."),

    # runners and requests
    _rule("runner_died", rf'"?{RUNNER} process no longer running"? sys=(?P<code>\d+) string="(?P<signal>[^"]+)', DIED),
    _rule("runner_died", rf'"{RUNNER} terminated" error="?(?P<why>[^"\n]+)',
          "A model runner ended: {why}; the next request starts another.", waits=True),
    _rule("runner_died", r'"(?:llama-server (?:completion|chat) error|post predict)"'
          r'(?=.*(?:EOF|connection (?:reset|refused)[^"]*|broken pipe)"?\s*$)(?:.*?127\.0\.0\.1:(?P<port>\d+))?',
          "A model runner died while it answered; that request failed."),
    _rule("runner_stuck", rf'"{RUNNER} unhealthy" error="server not responding',
          "A model runner does not answer; Ollama replaces it when it is not busy."),
    _rule("prompt_truncated", r'"truncating input prompt" limit=(?P<limit>\d+) prompt=(?P<prompt>\d+)',
          "A prompt of {prompt} tokens was cut to the context of {limit}. "
          "LLM_CONTEXT_LENGTH sets the length for all models."),

    _rule("out_of_memory", rf".*(?:cuda\w+ failed: |CUDA error: ){NO_MEMORY}", TOO_LARGE, waits=True),
)
# All other lines, from their beginning on.
RAW_RULES: Final = (
    # a start that fails: `Error: …`, exit 1, or a panic before the server stands
    _rule("port_in_use", r"Error: listen tcp\d? (?P<address>\S+): bind: address already in use",
          "Ollama cannot listen on {address}: another program holds it. "
          "Stop that program, or set OLLAMA_HOST to another port."),
    _rule("bad_address", r"Error: listen tcp\d? (?P<address>\S+): bind: cannot assign requested address",
          "Ollama cannot listen on {address}: it is no address of this machine. "
          "Set OLLAMA_HOST to one, or to 0.0.0.0."),
    _rule("bad_address", r"Error: listen tcp\d?: lookup (?P<name>\S+?)(?: on \S+)?: (?P<why>.+)",
          "Ollama cannot listen on {name}: {why}. Set OLLAMA_HOST to an address of this machine."),
    _rule("port_forbidden", r"Error: listen tcp\d? (?P<address>\S+): bind: permission denied",
          "Ollama may not listen on {address}: ports below 1024 need a privilege. Set OLLAMA_HOST to a higher port."),
    _rule("home_unset", r"(?:Error|panic): \$HOME is not defined",
          "Ollama needs HOME. Set it to a folder that its user may write, for its keys and models."),
    _rule("disk_full", rf"Error: .*{NO_SPACE}", DISK_FULL),
    _rule("store_unwritable",
          rf"Error: (?:could not create directory )?(?P<what>\w+) (?P<path>[^:]+): (?P<why>{FORBIDDEN}|no such file)",
          "Ollama cannot use {path} ({what}: {why}). "
          "Give its user the right to write there, or set OLLAMA_MODELS or HOME to another folder."),
    _rule("start_failed", r"Error: (?P<why>.+)", "Ollama refused to start: {why}"),

    # the end of the server, or of a runner ≤ 0.29, whose end a verdict then tells
    _rule("panic", r"(?:panic|fatal error): (?P<why>.+)", "Ollama crashed: {why}"),
    _rule("panic", r"SIG(?!QUIT)[A-Z]+: (?P<why>.+)", "Ollama crashed: {why}"),
    _rule("handler_panic", r"(?:\S+ (?:- )?\S+ )?\[Recovery\] .*panic recovered",
          "Ollama crashed inside one request and went on; that request failed."),

    # settings
    _rule("bad_setting", rf".{{0,80}}{CACHE_TYPE}", NO_CACHE_TYPE),
    _rule("bad_setting", r'.{0,80}error while handling (?:environment variable|argument) "(?P<name>[^"]+)"',
          NOT_UNDERSTOOD),
    _rule("setting_ignored", r"\S+ \S+ \S+ WARN invalid (?:environment variable|port), using default"
          r"(?P<what>(?: key=(?P<name>\w+))?.*)",
          IGNORED),

    # GPU
    _rule("gpu_no_access", r".{0,80}(?:NvRmMemInitNvmap failed with Permission denied|Memory Manager Not supp)",
          "The engine may not use the GPU: its user is not in the group video, or the container lacks the devices."),
    _rule("out_of_memory", r".{0,80}NvMapMemAllocInternalTagged: .*error (?P<code>12)", TOO_LARGE, waits=True),
    _rule("out_of_memory", rf"{FUNCTION}allocating (?P<size>[\d.]+ \w+) on device (?P<device>\d+): \w+ failed: out of",
          TOO_LARGE, waits=True),
    _rule("out_of_memory", rf"{FUNCTION}failed to allocate (?P<device>\w+) buffer of size (?P<bytes>\d+)", TOO_LARGE,
          waits=True),
    _rule("out_of_memory", rf"(?:{FUNCTION}(?:\w+ failed: )?|CUDA error: ){NO_MEMORY}", TOO_LARGE, waits=True),
    _rule("gpu_lost",
          r"CUDA error: (?P<why>no CUDA-capable device.*|device (?:lost|not available).*|unknown error.*)",
          "The GPU is gone for the engine: {why}."),
    # on a box without a GPU this is no fault: the GPU point of health knows whether there is one
    _rule("cpu_fallback", r"ggml_cuda_init: failed to initialize CUDA: (?P<why>.+)",
          "CUDA did not start ({why}); the engine computes on the CPU. Driver and engine may not fit together."),
    _rule("gpu_driver", r".{0,80}cudaSetDevice err: (?P<code>\d+)", CUDA_REFUSED),
    _rule("gpu_fault", r"(?:CUDA|ROCm) error: (?P<why>.+)", "The GPU failed while computing: {why}."),

    # reasons of a model file, before the verdict of the load
    _rule("model_unsupported",
          rf"{FUNCTION}error loading model: (?:.*: )?unknown model architecture: '(?P<name>[^']*)'",
          "The engine does not know the model architecture {name}. Update Ollama.", waits=True),
    _rule("model_damaged", rf"{FUNCTION}error (?:loading model: |reading tensor)(?P<why>.*)", DAMAGED, waits=True),
    _rule("runner_asserted", r"\S+: \S+:\d+: \S+: (?P<what>Assertion `.*' failed)", ASSERTED),  # glibc's assert
    _rule("runner_asserted", r"\S+:\d+: (?P<what>fatal error|not implemented.*)", ASSERTED),
    _rule("runner_asserted", r"(?:\S+:\d+: )?(?P<what>GGML_ASSERT\(.*\) failed)", ASSERTED),

    # requests
    _rule("bad_output", r"common_chat_peg_parse: unparsed ",
          "A model's answer was not understood; that request failed."),
)
# [GIN] 2026/11/23 - 07:32:49 | 503 | 63.3µs | 127.0.0.1 | POST "/api/chat": a client writes the path, so nothing
# behind the status is ever looked at.
GIN_RULES: Final = (
    _rule("too_many_requests", r"\[GIN\] [^|]*\| +503 \|",
          "The engine's queue is full; requests are refused."),
)

# Healthy boxes print these, and they look like a rule's line; none may ever count (facts/ollama.md §6.4).
FALSE_ALARMS: Final = tuple(re.compile(pattern) for pattern in (
    r"consecutive_failures=0",
    r'msg="model (?:recommendations |show (?:cloud|local) )',
    r'msg="(?:could not load model to describe it|failed to describe model)"',  # deleted while it was listed
    r"model is missing tokenizer\.chat_template|requested context size too large for model",
    r"error while trying to fit params|failed to fit params|retrying without pipeline parallelism",
    r"AMX is not ready to be used|failed to find ggml_backend_init",
    r'msg="aborting (?:completion|chat|embedding) request due to client closing',
    r'msg="(?:finished request signal received after model unloaded|Failed to acquire semaphore)',
    r"this can be a security risk",
    r' terminated" error="signal: killed"',  # how Ollama unloads; told when an error line stands before
))
# fmt: on
# What a client chose: msg="invalid option provided" option="no space left on device" · role= · tool_id=
CLIENT_FIELDS: Final = re.compile(r' (?:option|role|tool_id)=(?:"(?:\\.|[^"\\])*"|\S+)')
# Licence, template and vocabulary text of a model: never looked into.
METADATA: Final = ("llama_model_loader: - ", "print_info: ")
# An example of the model's chat template, over many raw lines that may read like anything.
TEMPLATE_BEGINS: Final = re.compile(r"srv +init: init: chat template, example_format: '")
TEMPLATE_ENDS: Final = re.compile(
    rb"^srv +(?:init: init: chat template, thinking|llama_server: (?:model loaded|listening)) ", re.MULTILINE
)
