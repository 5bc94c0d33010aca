"""What the engine's own variables may hold: checked before the spawn, since the engine is silent about faults.

One value that llama-server cannot read leaves a server that looks healthy and fails every load; one that
Ollama cannot read is replaced by a default without a word (facts: ollama.md §2.3, §5). Only numbers and
switches are checked: lists of words grow with each release, and a valid new word must not stop the engine.
The tables were made by giving llama-server b10434 a wrong value for each of its variables.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from arasul_supervisor.settings.quoting import quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

# Compose passes "" for what its user left out; these readers would stumble over it.
BLANK_IS_UNSET: Final = ("OLLAMA_", "LLAMA_ARG_")

_INT32: Final = range(-(1 << 31), 1 << 31)
_INTEGER_TEXT: Final = re.compile(r"\s*[+-]?[0-9]{1,19}\s*")
_COUNT_TEXT: Final = re.compile(r"[0-9]{1,19}")
_NUMBER_TEXT: Final = re.compile(r"\s*[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\s*")
_GO_DURATION: Final = re.compile(
    r"[+-]?(?:[0-9]{1,9}|(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:ns|us|µs|μs|ms|s|m|h))+)"
)
_LIST_MARK: Final = re.compile(r"[,/]")

_LLAMA_WORDS: Final = frozenset({"on", "enabled", "true", "1", "off", "disabled", "false", "0"})
_GO_NO: Final = frozenset({"0", "f", "F", "false", "FALSE", "False"})
_SPELLINGS_OF_NO: Final = frozenset(
    {"0", "f", "false", "n", "no", "off", "none", "never", "disable", "disabled"}
)


@dataclass(frozen=True, slots=True)
class Check:
    """What a variable may hold, in words and as a predicate."""

    allowed: str
    example: str
    is_allowed: Callable[[str], bool]


def engine_variable_problems(environ: Mapping[str, str]) -> Iterator[str]:
    """One sentence for each variable of the engine that holds something it would misread."""
    for variable, check in _CHECKS.items():
        value = engine_value(environ, variable)
        if value is not None and not check.is_allowed(value):
            yield (
                f"{variable} is {quoted(value)}, which the engine would misread: allowed is {check.allowed}, "
                f"for example {variable}={check.example}."
            )


def engine_value(environ: Mapping[str, str], variable: str) -> str | None:
    """What the engine will read: Ollama drops blanks and quotes around a value, llama-server does not."""
    value = environ.get(variable, "")
    if variable.startswith("OLLAMA_"):
        value = value.strip().strip("\"'")
    return value if value.strip() else None


def engine_variable_notes(environ: Mapping[str, str]) -> Iterator[str]:
    """One sentence for each variable that is read as meant and may still surprise."""
    if engine_value(environ, "LLAMA_ARG_ENDPOINT_SLOTS") in {"off", "disabled", "false", "0"}:
        yield "LLAMA_ARG_ENDPOINT_SLOTS turns off the token counter by which a stuck model is found."
    if environ.get("CUDA_VISIBLE_DEVICES", "unset").strip() == "":
        yield "CUDA_VISIBLE_DEVICES is empty, which hides every GPU from the engine; unset it to use them."
    if engine_value(environ, "OLLAMA_DEBUG_LOG_REQUESTS") not in {None, *_GO_NO}:
        yield "OLLAMA_DEBUG_LOG_REQUESTS makes the engine write prompts to its temporary folder."
    if engine_value(environ, "OLLAMA_DEBUG") == "2":
        yield "OLLAMA_DEBUG=2 makes Ollama 0.29 and older write prompts to its log."


def _is_integer(value: str) -> bool:
    return bool(_INTEGER_TEXT.fullmatch(value)) and int(value) in _INT32


def _is_count(value: str) -> bool:
    return bool(_COUNT_TEXT.fullmatch(value)) and int(value) < 1 << 63


def _is_layers(value: str) -> bool:
    return value in {"auto", "all"} or _is_integer(value)


def _is_size_list(value: str) -> bool:
    return all(_is_count(part.strip()) for part in _LIST_MARK.split(value))


def _is_number(value: str) -> bool:
    return bool(_NUMBER_TEXT.fullmatch(value))


def _is_number_list(value: str) -> bool:
    return all(_is_number(part) for part in _LIST_MARK.split(value))


def _is_go_duration(value: str) -> bool:
    return bool(_GO_DURATION.fullmatch(value))


def _is_no_misread_no(value: str) -> bool:
    return value in _GO_NO or value.lower() not in _SPELLINGS_OF_NO


_INTEGER: Final = Check("a whole number", "4", _is_integer)
_POSITIVE: Final = Check(
    "a whole number, not negative", "4", lambda value: _is_integer(value) and int(value) >= 0
)
_LAYERS: Final = Check("a whole number, 'auto' or 'all'", "33", _is_layers)
_MIB_LIST: Final = Check(
    "whole MiB, one for all devices or a comma list of one for each", "2048", _is_size_list
)
_NUMBER: Final = Check("a number", "1.0", _is_number)
_NUMBER_LIST: Final = Check("numbers with commas between them", "3,1", _is_number_list)
_SWITCH: Final = Check("on or off, true or false, 1 or 0, in lower case", "on", _LLAMA_WORDS.__contains__)
_AUTO_SWITCH: Final = Check(
    "on, off or auto, in lower case", "auto", (_LLAMA_WORDS | {"auto", "-1"}).__contains__
)
_COUNT: Final = Check("a whole number, not negative", "4", _is_count)
_DURATION: Final = Check("whole seconds or a duration such as 90s, 5m or 1h30m", "5m", _is_go_duration)
_GO_SWITCH: Final = Check("1 or 0; Ollama takes 'no' and 'off' for yes", "0", _is_no_misread_no)

_CHECKS: Final[Mapping[str, Check]] = {
    **dict.fromkeys(("LLAMA_ARG_N_GPU_LAYERS", "LLAMA_ARG_N_GPU_LAYERS_DRAFT"), _LAYERS),
    "LLAMA_ARG_FIT_TARGET": _MIB_LIST,
    "LLAMA_ARG_TENSOR_SPLIT": _NUMBER_LIST,
    **dict.fromkeys(("LLAMA_ARG_N_CPU_MOE", "LLAMA_ARG_SPEC_DRAFT_N_CPU_MOE"), _POSITIVE),
    **dict.fromkeys(
        (
            "LLAMA_ARG_BATCH", "LLAMA_ARG_CACHE_RAM", "LLAMA_ARG_CACHE_REUSE", "LLAMA_ARG_CTX_CHECKPOINTS",
            "LLAMA_ARG_CTX_SIZE", "LLAMA_ARG_FIT_CTX", "LLAMA_ARG_IMAGE_MAX_TOKENS", "LLAMA_ARG_IMAGE_MIN_TOKENS",
            "LLAMA_ARG_LOG_VERBOSITY", "LLAMA_ARG_MAIN_GPU", "LLAMA_ARG_N_PARALLEL", "LLAMA_ARG_N_PREDICT",
            "LLAMA_ARG_PORT", "LLAMA_ARG_SPEC_DRAFT_N_MAX", "LLAMA_ARG_SPEC_DRAFT_N_MIN", "LLAMA_ARG_THINK_BUDGET",
            "LLAMA_ARG_THREADS", "LLAMA_ARG_THREADS_HTTP", "LLAMA_ARG_TIMEOUT", "LLAMA_ARG_TOP_K",
            "LLAMA_ARG_UBATCH", "LLAMA_ARG_YARN_ORIG_CTX",
        ),
        _INTEGER,
    ),
    **dict.fromkeys(
        (
            "LLAMA_ARG_ROPE_FREQ_BASE", "LLAMA_ARG_ROPE_FREQ_SCALE", "LLAMA_ARG_ROPE_SCALE",
            "LLAMA_ARG_SPEC_DRAFT_P_MIN", "LLAMA_ARG_SPEC_DRAFT_P_SPLIT", "LLAMA_ARG_YARN_ATTN_FACTOR",
            "LLAMA_ARG_YARN_BETA_FAST", "LLAMA_ARG_YARN_BETA_SLOW", "LLAMA_ARG_YARN_EXT_FACTOR",
        ),
        _NUMBER,
    ),
    **dict.fromkeys(
        (
            "LLAMA_ARG_CACHE_IDLE_SLOTS", "LLAMA_ARG_CACHE_PROMPT", "LLAMA_ARG_CONTEXT_SHIFT",
            "LLAMA_ARG_CONT_BATCHING", "LLAMA_ARG_DIO", "LLAMA_ARG_ENDPOINT_SLOTS", "LLAMA_ARG_FIT",
            "LLAMA_ARG_JINJA", "LLAMA_ARG_KV_OFFLOAD", "LLAMA_ARG_KV_UNIFIED", "LLAMA_ARG_LOG_PREFIX",
            "LLAMA_ARG_LOG_TIMESTAMPS", "LLAMA_ARG_MMAP", "LLAMA_ARG_MMPROJ_AUTO", "LLAMA_ARG_MMPROJ_OFFLOAD",
            "LLAMA_ARG_PERF", "LLAMA_ARG_REPACK",
        ),
        _SWITCH,
    ),
    "LLAMA_ARG_FLASH_ATTN": _AUTO_SWITCH,
    **dict.fromkeys(
        (
            "OLLAMA_CONTEXT_LENGTH", "OLLAMA_GPU_OVERHEAD", "OLLAMA_MAX_LOADED_MODELS", "OLLAMA_MAX_QUEUE",
            "OLLAMA_MAX_TRANSFER_STREAMS", "OLLAMA_NUM_PARALLEL",
        ),
        _COUNT,
    ),
    **dict.fromkeys(("OLLAMA_KEEP_ALIVE", "OLLAMA_LOAD_TIMEOUT"), _DURATION),
    **dict.fromkeys(
        (
            "OLLAMA_FLASH_ATTENTION", "OLLAMA_GO_TEMPLATE", "OLLAMA_IGPU_ENABLE", "OLLAMA_NOPRUNE",
            "OLLAMA_NO_CLOUD", "OLLAMA_SCHED_SPREAD", "OLLAMA_VULKAN", "OLLAMA_DEBUG_LOG_REQUESTS",
        ),
        _GO_SWITCH,
    ),
}  # fmt: skip
