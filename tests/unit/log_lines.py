# ruff: noqa: E501 - what a program wrote is not wrapped
"""Lines of Ollama's log, by what they tell: every rule has one, and every false alarm.

[34] and [24] were recorded on 0.34.4 and 0.24.0 (paths shortened); the others stand in Ollama's source or in reports,
for they need a GPU.
"""

from __future__ import annotations

from typing import Final

HEAD: Final = "time=2026-11-23T07:32:48.871Z level=INFO source=sched.go:511 msg="
BLOB: Final = "/models/blobs/sha256-66c7a7145cb0"

# fmt: off
TELLING: Final = (
    # a start that fails
    ("port_in_use", "Error: listen tcp 127.0.0.1:11434: bind: address already in use"),  # [34] [24]
    ("bad_address", "Error: listen tcp 192.0.2.1:11434: bind: cannot assign requested address"),  # [34] [24]
    ("bad_address", "Error: listen tcp: lookup nohost on 10.0.0.2:53: no such host"),  # [34] [24]
    ("port_forbidden", "Error: listen tcp 0.0.0.0:80: bind: permission denied"),
    ("home_unset", "Error: $HOME is not defined"),  # [34] [24]
    ("home_unset", "panic: $HOME is not defined"),  # [34] [24]
    ("disk_full", "Error: write /store/x: no space left on device"),
    ("store_unwritable", "Error: could not create directory mkdir /x/.ollama: permission denied"),  # [34] [24]
    ("store_unwritable", "Error: mkdir /x/blobs: permission denied: ensure path elements are traversable"),  # [34] [24]
    ("store_unwritable", "Error: mkdir /x: not a directory: ensure path elements are traversable"),  # [34] [24]
    ("store_unwritable", "Error: remove /x/manifests: permission denied"),
    ("start_failed", "Error: something that nobody has seen yet"),

    # steps
    ("listening", HEAD + '"Listening on 127.0.0.1:11434 (version 0.34.4)"'),  # [34] [24]
    ("running_on_cpu", HEAD + '"inference compute" id=cpu library=cpu compute="" name=cpu'),  # [34] [24]
    ("running_on_gpu", HEAD + '"inference compute" id=GPU-1 library=CUDA compute=8.7'),
    ("loading", HEAD + f'"starting llama-server" cmd="/opt/llama-server --model {BLOB} --port 41007 --host 127.0.0.1"'),  # [34]
    ("loading", HEAD + f'"starting runner" cmd="/opt/ollama runner --model {BLOB} --port 38865"'),  # [24]
    ("loading", HEAD + f'"starting runner" cmd="/opt/ollama runner --ollama-engine --model {BLOB} --port 38865"'),
    ("loaded", HEAD + '"llama-server started in 0.25 seconds"'),  # [34]
    ("loaded", HEAD + '"llama runner started in 0.28 seconds"'),  # [24]
    ("downloading", HEAD + '"downloading c88366da3c1f in 1 450 KB part(s)"'),  # [34] [24]

    # settings
    ("bad_setting", 'error while handling environment variable "LLAMA_ARG_FIT_TARGET": stoull'),  # [34]
    ("bad_setting", 'error while handling argument "--cache-type-k": Unsupported cache type: nosuch'),  # [34]
    ("bad_setting", HEAD + r'"x" error="error while handling argument \"--cache-type-v\": Unsupported cache type: nosuch"'),
    ("bad_setting", HEAD + r'"x" detail="error while handling argument \"--cache-type-k\": y" error=z'),
    ("setting_unsuited", HEAD + f'"Load failed" model={BLOB} error="llama-server process has terminated: exit status 1: '
     'llama_init_from_model: quantized V cache requires flash_attn to be enabled"'),  # [34]
    ("setting_unsuited", HEAD + f'"Load failed" model={BLOB} error="llama-server process has terminated: exit status 1: '
     'llama_init_from_model: K cache type q8_0 with block size 32 does not divide n_embd_head_k=16"'),  # [34]
    ("setting_ignored", "2026/11/23 07:39:30 config.go:51: WARN invalid port, using default port=99999 default=11434"),  # [34] [24]
    ("setting_ignored", "2026/11/23 07:39:30 config.go:265: WARN invalid environment variable, using default "
     "key=OLLAMA_NUM_PARALLEL value=x default=1"),  # [34] [24]
    ("setting_ignored", HEAD + '"invalid environment variable, using default" key=OLLAMA_NUM_PARALLEL value=x default=1'),  # [34] [24]
    ("setting_ignored", HEAD + '"invalid port, using default" port=99999 default=11434'),
    ("runner_missing", HEAD + '"failed to create server" model=tiny error="error starting llama-server: '
     'llama-server binary not found (checked: /x)"'),  # [34]

    # the GPU
    ("discovery_failed", HEAD + '"llama-server GPU discovery watchdog timed out" error="context deadline exceeded"'),  # [34]
    ("discovery_failed", HEAD + '"failure during llama-server GPU discovery" extra_envs=map[] error="context deadline exceeded"'),  # [34]
    ("discovery_failed", HEAD + '"failure during GPU discovery" error="failed to finish discovery before timeout"'),
    ("cpu_fallback", HEAD + '"dropping integrated GPU; to enable, set OLLAMA_IGPU_ENABLE=1" id=0 library=CUDA'),
    ("cpu_fallback", HEAD + '"skipping CUDA device — compute capability not in compiled architectures" '
     'device=CUDA0 description="Tesla M60" compute=5.2'),
    ("cpu_fallback", "ggml_cuda_init: failed to initialize CUDA: no CUDA-capable device is detected"),
    ("cpu_fallback", "ggml_cuda_init: failed to initialize CUDA: CUDA driver version is insufficient"),
    ("gpu_driver", HEAD + '"NVIDIA driver too old" device="Tesla M60" driver=535 required_driver="550 or newer"'),
    ("gpu_driver", HEAD + '"AMD driver is too old. Update your AMD driver to enable GPU inference."'),
    ("gpu_driver", "cudaSetDevice err: 35"),
    ("gpu_driver", HEAD + '"x" error="cudaSetDevice err: 801"'),
    ("gpu_no_access", "NvRmMemInitNvmap failed with Permission denied"),
    ("gpu_no_access", "Memory Manager Not supported"),
    ("gpu_lost", "CUDA error: unknown error"),
    ("gpu_lost", "CUDA error: no CUDA-capable device is detected"),
    ("gpu_fault", "CUDA error: an illegal memory access was encountered"),
    ("gpu_fault", "CUDA error: CUDA-capable device(s) is/are busy or unavailable"),
    ("gpu_unreadable", HEAD + '"unable to refresh free memory, using old values"'),

    # loads: the last word
    ("load_abandoned", HEAD + '"client connection closed before llama-server finished loading, aborting load"'),  # [34]
    ("load_abandoned", HEAD + '"client connection closed before server finished loading, aborting load"'),  # [24]
    ("load_abandoned", HEAD + f'"Load failed" model={BLOB} error="timed out waiting for llama-server to start: context canceled"'),  # [34]
    ("load_abandoned", HEAD + f'"Load failed" model={BLOB} error="timed out waiting for llama runner to start: context canceled"'),  # [24]
    ("load_abandoned", HEAD + r'"do load request" error="Post \"http://127.0.0.1:46491/load\": context canceled"'),  # [24]
    ("out_of_memory", HEAD + f'"Load failed" model={BLOB} error="llama-server process has terminated: exit status 1: '
     'llama_init_from_model: failed to initialize the context: std::bad_alloc"'),  # [34]
    ("out_of_memory", HEAD + f'"Load failed" model={BLOB} error="model requires more system memory (256.0 GiB) than is '
     'available (23.0 GiB)"'),  # [24]
    ("out_of_memory", HEAD + '"Load failed" error="cudaMalloc failed: out of memory"'),
    ("load_stalled", HEAD + f'"Load failed" model={BLOB} error="timed out waiting for llama-server to start - "'),  # [34]
    ("load_stalled", HEAD + '"Load failed" error="timed out waiting for llama runner to start - progress 0.00 - "'),
    ("model_missing", HEAD + r'"failed to load model metadata" model=/b error="read GGUF metadata \"/b\": open /b: '
     'no such file or directory"'),  # [34]
    ("model_unsupported", HEAD + f'"Load failed" model={BLOB} error="llama-server process has terminated: exit status 1: '
     "error loading model: unknown model architecture: 'nosucharch'\""),  # [34]
    ("model_damaged", HEAD + f'"failed to load model metadata" model={BLOB} error="unexpected EOF"'),  # [24]
    ("model_damaged", HEAD + r'"failed to load model metadata" model=/b error="read GGUF metadata \"/b\": EOF"'),  # [34]
    ("load_failed", HEAD + f'"Load failed" model={BLOB} error="llama-server process has terminated: exit status 1"'),  # [34]
    ("load_failed", HEAD + f'"failed to create server" model=x error="unable to load model: {BLOB}"'),  # [24]
    ("load_failed", HEAD + '"error loading llama server" error="llama runner process has terminated"'),
    ("runner_died", HEAD + f'"Load failed" model={BLOB} error="llama-server process has terminated: signal: aborted"'),  # [34]

    # the store
    ("model_unreadable", HEAD + '"couldn\'t read model metadata" error="open /b: no such file or directory"'),  # [34]
    ("model_unreadable", HEAD + '"couldn\'t read model metadata" error=EOF'),  # [34]
    ("model_unreadable", HEAD + '"couldn\'t open model file" error="open /b: no such file or directory"'),  # [24]
    ("manifest_damaged", HEAD + '"bad manifest" name=registry/x:latest error="unexpected EOF"'),  # [34]
    ("manifest_damaged", HEAD + '"bad manifest filepath" name=registry/x:latest error=EOF'),
    ("manifest_damaged", HEAD + '"corrupt manifests detected, skipping prune operation.  Re-pull or delete to clear" '
     'error="registry/x:latest unexpected EOF"'),  # [34] [24]
    ("disk_full", HEAD + '"c88366da3c1f part 3 attempt 0 failed: write /s: no space left on device, retrying in 1s"'),
    ("disk_full", HEAD + '"x" error="write /s: no space left on device"'),
    ("store_unwritable", HEAD + '"x" error="open /store/blobs/sha256-1: permission denied"'),
    ("store_unwritable", HEAD + '"couldn\'t remove file \'/m/b\': remove /m/b: read-only file system"'),  # images.go:868
    ("store_unwritable", HEAD + '"couldn\'t read dir \'/m\': open /m: permission denied"'),  # images.go:886

    # pulls
    ("pull_stalled", HEAD + '"c88366da3c1f part 0 stalled; retrying. If this persists, press ctrl-c to exit, then"'),  # [34] [24]
    ("pull_retried", HEAD + '"c88366da3c1f part 0 attempt 0 failed: unexpected EOF, retrying in 1s"'),  # [34] [24]
    ("registry_unreachable", HEAD + r'"request failed: Get \"https://x\": dial tcp: open /x: no such file or directory"'),  # [34] [24]

    # runners, the server, requests
    ("memory_tight", HEAD + '"llama-server load failed; reducing automatic context and retrying once"'),
    ("memory_tight", HEAD + '"llama-server load failed; evicting all other models and retrying once"'),
    ("memory_tight", HEAD + '"runtime OOM detected; expiring loaded models to clear memory before next request"'),
    ("runner_died", HEAD + '"llama-server process no longer running" sys=9 string="signal: killed"'),  # [34]
    ("runner_died", HEAD + '"llama runner process no longer running" sys=9 string="signal: killed"'),  # [24]
    ("runner_died", HEAD + r'"llama-server completion error" error="Post \"http://127.0.0.1:43487/completion\": EOF"'),
    ("runner_died", HEAD + r'"post predict" error="Post \"http://127.0.0.1:37997/completion\": EOF"'),  # [24]
    ("runner_stuck", HEAD + '"llama-server unhealthy" error="server not responding"'),
    ("runner_asserted", "/src/ggml/src/ggml.c:3240: GGML_ASSERT(a->ne[2] == b->ne[0]) failed"),
    ("runner_asserted", "/src/ggml/src/ggml-cpu/ops.cpp:71: fatal error"),
    ("runner_asserted", "/src/ggml/src/ggml-cuda/ggml-cuda.cu:2345: not implemented"),
    ("runner_asserted", "GGML_ASSERT(n_inputs < GGML_SCHED_MAX_SPLIT_INPUTS) failed"),
    ("runner_asserted", "ollama: quants.c:292: quantize_row_q8_0: Assertion `k % QK8_0 == 0' failed."),  # [24]
    ("panic", "panic: runtime error: index out of range [0] with length 0"),  # [24]
    ("panic", "panic: runtime error: invalid memory address or nil pointer dereference"),  # [34]
    ("panic", "fatal error: concurrent map writes"),
    ("panic", "SIGSEGV: segmentation violation"),  # [34] [24]
    ("panic", "SIGABRT: abort"),  # [24]
    ("panic", "SIGILL: illegal instruction"),
    ("handler_panic", "\x1b[31m2026/11/23 22:13:43 [Recovery] 2026/11/23 - 22:13:43 panic recovered:"),  # [24]
    ("handler_panic", "[Recovery] 2026/11/23 - 07:40:00 panic recovered:"),
    ("bad_output", "common_chat_peg_parse: unparsed peg-native output: [redacted]"),  # [34]
    ("prompt_truncated", HEAD + '"truncating input prompt" limit=1026 prompt=1400 keep=4 new=1026'),  # [34] [24]
    ("too_many_requests", '[GIN] 2026/11/23 - 16:00:35 | 503 |      12µs |       127.0.0.1 | POST     "/api/chat"'),  # [34] [24]
)

# Lines that count only beside another: reasons, and the end of a runner.
WAITING: Final = (
    ("model_unsupported", "llama_model_load: error loading model: unknown model architecture: 'nosucharch'"),  # [34]
    ("model_unsupported", "llama_model_load: error loading model: error loading model architecture: unknown model "
     "architecture: 'nosucharch'"),  # [24]
    ("model_damaged", "llama_model_load: error loading model: missing tensor 'blk.1.ffn_up.weight'"),  # [24]
    ("model_damaged", "llama_model_load: error loading model: check_tensor_dims: tensor 'blk.1.ffn_up.weight' not found"),  # [34]
    ("model_damaged", "llama_model_load: error reading tensor"),
    ("model_damaged", HEAD + '"error reading tensor" index=12 error="unexpected EOF"'),  # [24]
    ("out_of_memory", "CUDA error: out of memory"),
    ("out_of_memory", "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 9 MiB on device 0: cudaMalloc failed: out of memory"),
    ("out_of_memory", "alloc_tensor_range: failed to allocate CUDA0 buffer of size 12"),
    ("out_of_memory", "llama_model_load: error loading model: unable to allocate CUDA0 buffer"),
    ("out_of_memory", "ggml_aligned_malloc: insufficient memory (attempted to allocate 8192.00 MB)"),  # [34] [24]
    ("out_of_memory", "graph_reserve: failed to reserve graph"),
    ("out_of_memory", HEAD + '"x" error="cudaMalloc failed: out of memory"'),
    ("out_of_memory", "NvMapMemAllocInternalTagged: 1075072515 error 12"),
    ("runner_died", HEAD + '"llama-server terminated" error="exit status 1" exit=1'),  # [34]
    ("runner_died", HEAD + '"llama runner terminated" error="exit status 2"'),  # [24]
)

# Healthy boxes print these.
SILENT: Final = (
    HEAD + '"model recommendations cache sleep scheduled" wait=3h consecutive_failures=0',
    HEAD + '"model recommendations refresh failed" error="no space left on device"',
    HEAD + '"model show cloud cache hydration failed" error="x"',
    HEAD + '"model is missing tokenizer.chat_template and Go TEMPLATE support is unavailable"',
    HEAD + '"requested context size too large for model" num_ctx=1',
    HEAD + '"could not load model to describe it" model=a/b:no-space error="open /models/x: permission denied"',
    HEAD + '"failed to describe model" model=x error="open /models/x: permission denied"',
    HEAD + '"starting runner" cmd="/opt/ollama runner --ollama-engine --port 33113"',
    HEAD + '"unsupported content type: unknown"',
    HEAD + '"llama-server terminated" error="signal: killed" exit=unknown',  # [34]: Ollama's own unload
    "common_fit_params: failed to fit params to free device memory: not enough memory",
    "common_fit_params: encountered an error while trying to fit params to free device memory: failed to allocate",
    "graph_reserve: failed to allocate compute buffers, retrying without pipeline parallelism",
    "AMX is not ready to be used!",
    "load_backend: failed to find ggml_backend_init in /x/libggml.so",
    HEAD + '"aborting completion request due to client closing the connection"',
    HEAD + '"finished request signal received after model unloaded" modelPath=x',
    HEAD + '"Failed to acquire semaphore" error="x"',
    HEAD + '"invalid option provided" option="no space left on device"',
    HEAD + r'"invalid option provided" option="x\" error=\"cudaSetDevice err: 35"',
    HEAD + '"unexpected message role" renderer=qwen3.8 role=" open /srv/models: permission denied"',
    HEAD + '"llama-server chat error" error="unexpected EOF in the template, line 3"',
    HEAD + '"gemma4 tool call parsing failed" error=[redacted]',
    "srv  llama_server: this can be a security risk (cross-origin attacks)",
    "srv    send_error: task id = 0, error: request (18052 tokens) exceeds the available context size (2048 tokens)",
    "llama_model_loader: - kv   5: general.license str = panic: out of memory",
    "print_info: EOG token = 1 'CUDA error: out of memory'",
    "load_tensors: offloaded 3/3 layers to GPU",
    "srv  update_slots: all slots are idle",
    "srv  llama_server: exiting due to model loading error",
    "  the word fatal error: in the middle decides nothing",
    "SIGQUIT: quit",
    '[GIN] 2026/11/23 - 16:00:35 | 404 | 12µs | 127.0.0.1 | GET "/x msg="Load failed" panic: CUDA error: oom"',
    '[GIN] 2026/11/23 - 16:00:35 | 200 | 12µs | 127.0.0.1 | GET "/| 503 |"',
    '[GIN] 2026/11/23 - 16:00:35 | 500 | 12µs | 127.0.0.1 | POST "/api/chat"',
)
# fmt: on
