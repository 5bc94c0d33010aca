"""How each fault of the real engine is told by a daemon above it, and why some are not looked at.

`tests/real/test_log_outcomes.py` looks at all others; where many have one outcome, at those that differ most.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Told:
    """How a fault is told: by which outcome, with what in its sentence, and in the line that speaks of it."""

    outcome: str
    sentence: str
    line: str
    count: int = 1


# fmt: off
REFUSALS = {
    "port_taken": Told("port_in_use", "another program holds it", "bind: address already in use"),
    "address_not_local": Told("bad_address", "192.0.2.1:11434: it is no address of this machine", "cannot assign"),
    "home_not_writable": Told("store_unwritable", "/locked/.ollama (mkdir: permission denied)", "permission denied"),
    "store_not_writable": Told("store_unwritable", "/locked/blobs (mkdir: permission denied)", "permission denied"),
    "store_is_a_file": Told("store_unwritable", "/file (mkdir: not a directory)", "not a directory"),
}
ERRORS = {
    "kv_cache_type_impossible":
        Told("setting_unsuited", "OLLAMA_KV_CACHE_TYPE=q8_0 does not suit this model", 'msg="Load failed"'),
    "kv_cache_type_unknown":
        Told("bad_setting", "does not understand OLLAMA_KV_CACHE_TYPE=", 'handling argument "--cache-type-k"'),
    "llama_server_missing": Told("runner_missing", "Install Ollama anew.", "llama-server binary not found"),
    "gguf_unknown_architecture":
        Told("model_unsupported", "nosucharch. Update Ollama.", "unknown model architecture: 'nosucharch'"),
    "gguf_without_tokens":
        Told("model_damaged", "cannot find tokenizer vocab in model file", "error loading model"),
    "gguf_without_block_count":  # ends a server of the older generation
        Told("model_damaged", "key not found in model: llama.block_count", "error loading model"),
    "gguf_cut_in_tensors":
        Told("model_damaged", "offset+size exceeds file size. Pull that model", 'msg="failed to load model metadata"'),
    "gguf_empty":
        Told("model_damaged", "does not fit this engine: EOF. Pull that model", 'msg="failed to load model metadata"'),
    "blob_missing": Told("model_missing", "A file of a model is missing.", "no such file or directory"),
    "load_too_large": Told("out_of_memory", "did not fit into memory", "std::bad_alloc"),
    "assert_in_load": Told("runner_asserted", "GGML_ASSERT(ggml_can_mul_mat(k, q)) failed", "GGML_ASSERT"),
    "assert_in_answer": Told("runner_asserted", "GGML_ASSERT(n_ctx > 0", "GGML_ASSERT"),
    "assert_by_request": Told("runner_asserted", "GGML_ASSERT(n_tokens_all <=", "GGML_ASSERT"),
    "runner_killed_idle": Told("runner_died", "died (signal: killed)", "process no longer running"),
    "runner_killed_answering": Told("runner_died", "died (signal: killed)", "process no longer running"),
    "runner_aborted_answering": Told("runner_died", "died (signal: aborted)", "process no longer running"),
    # each ends with a good load of the same model: what ended that runner may end the next
    "runner_killed_while_loading": Told("runner_died", "(signal: killed) while it loaded a model", "Load failed"),
    "runner_aborted_while_loading": Told("runner_died", "(signal: aborted) while it loaded a model", "Load failed"),
}
WARNINGS = {
    "llama_server_crashes_in_discovery":
        Told("discovery_failed", "segmentation fault); this engine runs on the CPU", "failure during llama-server GPU"),
    "queue_full": Told("too_many_requests", "queue is full; requests are refused. (4 times)", "| 503 |", count=4),
    "garbage_output": Told("bad_output", "answer was not understood", "unparsed peg-native output:", count=2),
}
CURED = {
    "load_stalled": Told("load_stalled", "its runner stood still", "timed out waiting for llama-server to start"),
    "load_out_of_memory": Told("out_of_memory", "did not fit into memory", "insufficient memory"),
    "gguf_cut_in_header": Told("model_damaged", "unexpected EOF. Pull that model again.", "unexpected EOF"),
}
HARMLESS = {
    "client_left_while_loading": "load_abandoned",
    "pull_from_nowhere": "registry_unreachable",
    "pull_cut_once": "pull_retried",
    "pull_registry_restarted": "pull_retried",
    "pull_stalled_before_first_byte": "pull_stalled",
    "pull_stalled_in_a_part": "pull_stalled",
}
PANICS = {
    "pull_joined_and_left": "Ollama crashed: runtime error: invalid memory address or nil pointer dereference",
    "server_segfaulted": "Ollama crashed: segmentation violation",
}
ON_THEIR_OWN = ("manifest_damaged", "disk_full_in_pull")
ELSEWHERE = {
    "host_unknown": "bad_address, as address_not_local; how long it takes depends on the name server",
    "home_unset": "the daemon gives the engine the HOME of its user's passwd entry",
    "home_and_store_unset": "the same",
    "setting_ignored": "the daemon refuses to start with it",
    "llama_arg_unparsable": "the daemon refuses to start with it",
    "discovery_watchdog": "discovery_failed, as llama_server_crashes_in_discovery, after 30 s",
    "gguf_without_tensor": "model_damaged, as gguf_without_tokens",
    "gguf_random_bytes": "model_damaged, as gguf_empty",
    "assert_in_computation": "runner_asserted, as assert_in_load",
    "assert_with_debugger": "runner_asserted, as assert_in_load",
    "runner_segfaulted_while_loading": "runner_died, as runner_aborted_while_loading",
    "runner_segfaulted_answering": "runner_died, as runner_aborted_answering",
    "load_stalled_at_once": "load_stalled, as load_stalled",
    "manifest_damaged_at_start": "the daemon turns off the pruning that meets it",
    "pull_registry_dead": "pull_retried, as pull_cut_once",
    "pull_registry_silent_on_blob": "registry_unreachable, as pull_from_nowhere, after 45 s",
    "disk_full": "disk_full, as disk_full_in_pull; a copy leaves a damaged manifest",
    "disk_full_in_upload": "disk_full, as disk_full_in_pull",
    "server_killed": "silent: /api/process tells the signal",
    "server_quit": "SIGQUIT asks for the stacks: no outcome",
    "context_of_unknown_tokens": "harmless since 0.30; ends a server of the older generation",
    "client_left_while_answering": "harmless",
    **dict.fromkeys(
        (
            "create_from_random_bytes", "deleted_while_loaded", "repeat_limit", "embed_refused", "pull_unknown_model",
            "pull_registry_error", "pull_blob_error", "pull_digest_mismatch", "pull_without_location",
            "pull_damaged_part", "pull_registry_silent_on_manifest",
        ),
        "silent: whoever asked is told",
    ),
}
# fmt: on
