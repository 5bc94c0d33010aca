"""Guards what a log line is taken for: health may never degrade by a false alarm (contract, promise 5)."""

from __future__ import annotations

import pytest

from arasul_supervisor.logs.levels import parse_level
from arasul_supervisor.logs.prefilter import candidate_lines, is_candidate
from arasul_supervisor.logs.rules import GIN_RULES, RAW_RULES, SLOG_RULES, classify, explain_exit

HEAD = "time=2026-11-23T07:32:48.871Z level=INFO source=sched.go:511 msg="

# outcome, severity, line; facts/ollama.md §2.3 and §6.2
SAYING = [
    ("port_in_use", "error", "Error: listen tcp 127.0.0.1:11434: bind: address already in use"),
    ("bad_address", "error", "Error: listen tcp 10.255.255.1:11434: bind: cannot assign requested address"),
    ("bad_address", "error", "Error: listen tcp: lookup nohost on 10.0.0.2:53: no such host"),
    ("port_forbidden", "error", "Error: listen tcp 0.0.0.0:80: bind: permission denied"),
    ("home_unset", "error", "Error: $HOME is not defined"),
    ("home_unset", "error", "panic: $HOME is not defined"),
    ("disk_full", "error", "Error: write /store/x: no space left on device"),
    (
        "disk_full",
        "error",
        HEAD + '"x part 3 attempt 0 failed: write /s: no space left on device, retrying in 1s"',
    ),
    ("store_unwritable", "error", "Error: could not create directory mkdir /x/.ollama: permission denied"),
    (
        "store_unwritable",
        "error",
        "Error: mkdir /x/blobs: permission denied: ensure path elements are traversable",
    ),
    ("store_unwritable", "error", "Error: mkdir /x: not a directory: ensure path elements are traversable"),
    ("store_unwritable", "error", "Error: remove /x/manifests: permission denied"),
    ("store_unwritable", "error", HEAD + '"x" error="open /store/blobs/sha256-1: permission denied"'),
    ("start_failed", "error", "Error: something that nobody has seen yet"),
    ("panic", "error", "panic: runtime error: index out of range [2] with length 1"),
    ("panic", "error", "fatal error: concurrent map writes"),
    (
        "handler_panic",
        "warning",
        "\x1b[31m2026/11/23 - 07:40:00 [Recovery] 2026/11/23 - 07:40:00 panic recovered:",
    ),
    ("handler_panic", "warning", "[Recovery] 2026/11/23 - 07:40:00 panic recovered:"),
    ("bad_setting", "error", 'error while handling environment variable "LLAMA_ARG_N_GPU_LAYERS": stoi'),
    (
        "bad_setting",
        "error",
        HEAD + r'"x" detail="error while handling argument \"--cache-type-k\": y" error=z',
    ),
    ("bad_setting", "error", 'error while handling argument "--cache-type-k": Unsupported cache type: q3'),
    (
        "bad_setting",
        "warning",
        HEAD + '"invalid environment variable, using default" key=OLLAMA_NUM_PARALLEL',
    ),
    (
        "bad_setting",
        "warning",
        "2026/11/23 07:39:30 config.go:51: WARN invalid port, using default port=99999 default=11434",
    ),
    ("discovery_failed", "warning", HEAD + '"llama-server GPU discovery watchdog timed out"'),
    ("discovery_failed", "warning", HEAD + '"failure during llama-server GPU discovery" error="x"'),
    (
        "discovery_failed",
        "warning",
        HEAD + '"failure during GPU discovery" error="failed to finish discovery"',
    ),
    ("running_on_cpu", "info", HEAD + '"inference compute" id=cpu library=cpu compute=""'),
    ("running_on_gpu", "info", HEAD + '"inference compute" id=GPU-1 library=CUDA compute=8.7'),
    ("loaded", "info", HEAD + '"llama-server started in 0.25 seconds"'),
    ("loaded", "info", HEAD + '"llama runner started in 1.25 seconds"'),
    (
        "load_failed",
        "error",
        HEAD + '"Load failed" model=/b error="llama-server process has terminated: exit 1"',
    ),
    ("load_failed", "error", HEAD + '"failed to create server" model=x error="y"'),
    ("load_failed", "error", HEAD + '"failed to load model metadata" error=EOF'),
    ("load_stalled", "error", HEAD + '"Load failed" error="timed out waiting for llama-server to start - "'),
    (
        "load_stalled",
        "error",
        HEAD + '"Load failed" error="timed out waiting for llama runner to start - progress"',
    ),
    ("out_of_memory", "error", HEAD + '"Load failed" error="cudaMalloc failed: out of memory"'),
    ("out_of_memory", "candidate", "CUDA error: out of memory"),
    (
        "out_of_memory",
        "candidate",
        "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 9 MiB on device 0: cudaMalloc failed: out of memory",
    ),
    ("out_of_memory", "candidate", "alloc_tensor_range: failed to allocate CUDA0 buffer of size 12"),
    ("out_of_memory", "candidate", "llama_model_load: error loading model: unable to allocate CUDA0 buffer"),
    ("out_of_memory", "candidate", "graph_reserve: failed to reserve graph"),
    ("out_of_memory", "candidate", HEAD + '"x" error="cudaMalloc failed: out of memory"'),
    ("out_of_memory", "candidate", "NvMapMemAllocInternalTagged: 1075072515 error 12"),
    (
        "model_missing",
        "error",
        HEAD + '"couldn\'t read model metadata" error="open /b: no such file or directory"',
    ),
    (
        "model_missing",
        "error",
        HEAD + '"couldn\'t open model file" error="open /b: no such file or directory"',
    ),
    ("model_damaged", "warning", HEAD + '"couldn\'t read model metadata" error=EOF'),
    ("model_damaged", "error", "llama_model_load: error loading model: missing tensor 'output.weight'"),
    ("model_damaged", "error", "llama_model_load: error reading tensor"),
    (
        "model_unsupported",
        "error",
        "llama_model_load: error loading model: unknown model architecture: 'zeta'",
    ),
    ("manifest_damaged", "warning", HEAD + '"bad manifest" name=registry/x:latest error="unexpected EOF"'),
    (
        "memory_tight",
        "warning",
        HEAD + '"llama-server load failed; reducing automatic context and retrying once"',
    ),
    (
        "memory_tight",
        "warning",
        HEAD + '"llama-server load failed; evicting all other models and retrying once"',
    ),
    ("memory_tight", "warning", HEAD + '"runtime OOM detected; expiring loaded models" model=x'),
    ("runner_died", "error", HEAD + '"llama-server process no longer running" sys=9 string="signal: killed"'),
    (
        "runner_died",
        "error",
        HEAD + '"llama runner process no longer running" sys=11 string="signal: segfault"',
    ),
    ("runner_died", "error", HEAD + '"llama-server terminated" error="exit status 1" exit=1'),
    ("runner_died", "error", HEAD + '"llama runner terminated" error="exit status 2"'),
    ("runner_died", "error", HEAD + '"llama-server completion error" error=EOF'),
    ("runner_died", "error", HEAD + '"post predict" error="Post \\"http://127.0.0.1:1\\": EOF"'),
    ("runner_asserted", "error", "/src/ggml/src/ggml.c:3240: GGML_ASSERT(a->ne[2] == b->ne[0]) failed"),
    ("gpu_no_access", "error", "NvRmMemInitNvmap failed with Permission denied"),
    ("gpu_no_access", "error", "Memory Manager Not supported"),
    ("gpu_lost", "error", "ggml_cuda_init: failed to initialize CUDA: no CUDA-capable device is detected"),
    ("gpu_lost", "error", "CUDA error: unknown error"),
    ("gpu_driver", "error", "ggml_cuda_init: failed to initialize CUDA: CUDA driver version is insufficient"),
    ("gpu_driver", "error", "cudaSetDevice err: 35"),
    ("gpu_driver", "error", HEAD + '"x" error="cudaSetDevice err: 801"'),
    ("gpu_fault", "error", "CUDA error: an illegal memory access was encountered"),
    ("gpu_fault", "error", "CUDA error: CUDA-capable device(s) is/are busy or unavailable"),
    ("gpu_unreadable", "info", HEAD + '"unable to refresh free memory, using old values"'),
    (
        "too_many_requests",
        "warning",
        '[GIN] 2026/11/23 - 16:00:35 | 503 |      12µs |       127.0.0.1 | POST     "/api/chat"',
    ),
    ("bad_output", "warning", "common_chat_peg_parse: unparsed peg-native output: [redacted]"),
]

# facts/ollama.md §6.4: healthy boxes print these
SILENT = [
    HEAD + '"model recommendations cache sleep scheduled" wait=3h consecutive_failures=0',
    HEAD + '"model recommendations refresh failed" error="no space left on device"',
    HEAD + '"model show cloud cache hydration failed" error="x"',
    HEAD + '"model is missing tokenizer.chat_template and Go TEMPLATE support is unavailable"',
    HEAD + '"requested context size too large for model" num_ctx=1',
    "common_fit_params: failed to fit params to free device memory: not enough memory",
    "common_fit_params: encountered an error while trying to fit params to free device memory: failed to allocate",
    "graph_reserve: failed to allocate compute buffers, retrying without pipeline parallelism",
    "AMX is not ready to be used!",
    "load_backend: failed to find ggml_backend_init in /x/libggml.so",
    HEAD + '"aborting completion request due to client closing the connection"',
    HEAD + '"client connection closed before llama-server finished loading, aborting load"',
    HEAD + '"Load failed" model=/b error="context canceled"',
    HEAD + '"Load failed" model=/b error="llama-server: context canceled"',
    HEAD + '"request failed: Get \\"https://x\\": dial tcp: open /x: no such file or directory"',
    HEAD + '"12ab part 3 attempt 0 failed: open /x: permission denied, retrying in 1s"',
    HEAD + '"12ab part 7 stalled; retrying. If this persists, press ctrl-c to exit"',
    HEAD + '"finished request signal received after model unloaded" modelPath=x',
    HEAD + '"Failed to acquire semaphore" error="x"',
    "srv  init: CORS proxy is enabled, this can be a security risk",
    "llama_model_loader: - kv   5: general.license str = panic: out of memory",
    "print_info: EOG token = 1 'CUDA error: out of memory'",
    "load_tensors: offloaded 3/3 layers to GPU",
    "srv  update_slots: all slots are idle",
    "  the word fatal error: in the middle decides nothing",
    '[GIN] 2026/11/23 - 16:00:35 | 404 | 12µs | 127.0.0.1 | GET "/x msg="Load failed" panic: CUDA error: oom"',
    '[GIN] 2026/11/23 - 16:00:35 | 200 | 12µs | 127.0.0.1 | GET "/| 503 |"',
]


@pytest.mark.parametrize(("outcome", "severity", "line"), SAYING)
def test_a_line_worth_a_rule_is_known(outcome: str, severity: str, line: str) -> None:
    match = classify(line)
    assert match is not None
    assert (match.outcome, match.severity) == (outcome, severity)
    assert "{" not in match.sentence


@pytest.mark.parametrize("line", [line for _, _, line in SAYING])
def test_the_prefilter_lets_every_line_of_a_rule_through(line: str) -> None:
    block = f"before\n{line}\nafter\n".encode()
    assert candidate_lines(block) == [(7, 7 + len(line.encode()))]
    assert is_candidate(line.encode())


@pytest.mark.parametrize("line", SILENT)
def test_a_false_alarm_never_counts(line: str) -> None:
    assert classify(line) is None


def test_every_rule_has_a_line_that_only_it_explains() -> None:
    sentences = {match.sentence for _, _, line in SAYING if (match := classify(line))}
    unused = [
        rule.outcome
        for rule in (*SLOG_RULES, *RAW_RULES, *GIN_RULES)
        if not any(_is_from(sentence, rule.sentence) for sentence in sentences)
    ]
    assert unused == []


def test_a_sentence_names_what_the_line_names() -> None:
    match = classify("Error: listen tcp 127.0.0.1:11434: bind: address already in use")
    assert match is not None
    assert match.fields == {"address": "127.0.0.1:11434"}
    assert match.sentence.startswith("Ollama cannot listen on 127.0.0.1:11434: another program holds it.")


@pytest.mark.parametrize(
    ("lines", "outcome"),
    [
        pytest.param(
            [HEAD + '"server config"', SAYING[0][2]], "port_in_use", id="the reason is the last line"
        ),
        pytest.param(
            ["panic: $HOME is not defined", "", "goroutine 1 [running]:", "\tmain.go:12 +0x13"],
            "home_unset",
            id="the reason stands above a stack",
        ),
        pytest.param(
            ["Error: quite new", HEAD + '"bad manifest" name=x error=y'], "start_failed", id="unknown reason"
        ),
        pytest.param(["panic: boom", "Error: x"], "start_failed", id="Error beats panic"),
        pytest.param(["panic: boom", "goroutine 1 [running]:"], "panic", id="a panic alone"),
    ],
)
def test_the_last_lines_explain_a_failed_start(lines: list[str], outcome: str) -> None:
    explained = explain_exit(lines)
    assert explained is not None
    assert explained[0] == outcome


def test_lines_that_explain_nothing_give_nothing() -> None:
    assert explain_exit([HEAD + '"server config"', "", SAYING[-1][2]]) is None


@pytest.mark.parametrize(
    ("line", "level"),
    [
        (HEAD + '"x"', "info"),
        (HEAD.replace("INFO", "WARN") + '"x"', "warning"),
        (HEAD.replace("INFO", "ERROR") + '"x"', "error"),
        (HEAD.replace("INFO", "DEBUG-4") + '"x"', "debug"),
        (HEAD.replace("INFO", "TRACE") + '"x"', "debug"),
        ("Error: x", "error"),
        ("panic: x", "error"),
        ('[GIN] 2026/11/23 - 16:00:35 | 200 | 1µs | ::1 | GET "/"', "info"),
        ('[GIN] 2026/11/23 - 16:00:35 |\x1b[90;43m 404 \x1b[0m| 1µs | ::1 | GET "/"', "warning"),
        ('[GIN] 2026/11/23 - 16:00:35 | 500 | 1µs | ::1 | GET "/"', "error"),
        ("[GIN-debug] [WARNING] Running in debug mode", "debug"),
        ("2026/11/23 07:39:30 config.go:51: WARN invalid port", "warning"),
        ("load_tensors: x", "info"),
        ("", "info"),
    ],
)
def test_a_line_says_its_own_level(line: str, level: str) -> None:
    assert parse_level(line) == level


def _is_from(sentence: str, template: str) -> bool:
    return sentence.startswith(template.partition("{")[0])
