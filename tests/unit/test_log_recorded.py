"""Guards that what both generations of a real Ollama wrote in each fault is read for what it was (tests/recorded)."""

from __future__ import annotations

from pathlib import Path

import pytest

from arasul_supervisor.logs.meaning.reading import Reading

RECORDED = Path(__file__).parents[1] / "recorded"
STARTS = {
    "address_not_local": "bad_address",
    "home_and_store_unset": "home_unset",
    "home_not_writable": "store_unwritable",
    "home_unset": "home_unset",
    "host_unknown": "bad_address",
    "port_taken": "port_in_use",
    "store_is_a_file": "store_unwritable",
    "store_not_writable": "store_unwritable",
}
BOTH = STARTS | {
    "assert_in_computation": "runner_asserted",
    "assert_in_load": "runner_asserted",
    "assert_with_debugger": "runner_asserted",
    "disk_full": "",  # silent: telemetry looks at the disk
    "disk_full_in_pull": "",
    "gguf_cut_in_header": "model_damaged",
    "gguf_cut_in_tensors": "model_damaged",
    "gguf_unknown_architecture": "model_unsupported",
    "gguf_without_tensor": "model_damaged",
    "gguf_without_tokens": "model_damaged",
    "load_out_of_memory": "out_of_memory",
    "load_stalled": "load_stalled",
    "load_too_large": "out_of_memory",
    "pull_cut_once": "pull_retried",
    "pull_from_nowhere": "registry_unreachable registry_unreachable",
    "pull_registry_dead": "pull_retried",
    "pull_registry_restarted": "pull_retried",
    "pull_registry_silent_on_blob": "registry_unreachable",
    "pull_stalled_in_a_part": "pull_stalled",
    "queue_full": "too_many_requests " * 4,
    "runner_aborted_answering": "runner_died",
    "runner_aborted_while_loading": "runner_died",
    "runner_killed_answering": "runner_died",
    "runner_killed_idle": "runner_died",
    "runner_killed_while_loading": "runner_died",
    "runner_segfaulted_answering": "runner_died",
    "runner_segfaulted_while_loading": "runner_died",
    "server_quit": "",  # SIGQUIT asks for the stacks
    "server_segfaulted": "panic",
    "setting_ignored": "setting_ignored setting_ignored",
}
EVENTS = {
    "0.34.4": BOTH
    | {
        "assert_by_request": "runner_asserted",
        "assert_in_answer": "runner_asserted",
        "blob_missing": "model_missing",
        "client_left_while_answering": "",
        "client_left_while_loading": "load_abandoned",
        "context_of_unknown_tokens": "",
        "discovery_watchdog": "discovery_failed",
        "garbage_output": "bad_output bad_output",
        "gguf_empty": "model_damaged",
        "gguf_random_bytes": "model_damaged",
        "gguf_without_block_count": "model_damaged",
        "kv_cache_type_impossible": "setting_unsuited",
        "kv_cache_type_unknown": "bad_setting",
        "llama_arg_unparsable": "bad_setting discovery_failed",
        "llama_server_crashes_in_discovery": "discovery_failed",
        "llama_server_missing": "runner_missing",
        "load_stalled_at_once": "load_stalled",
        "manifest_damaged": "",
        "manifest_damaged_at_start": "",
        "ordinary": "",
        "pull_joined_and_left": "panic",
        "pull_stalled_before_first_byte": "pull_stalled",
    },
    "0.24.0": BOTH
    | {
        "blob_missing": "",
        "context_of_unknown_tokens": "panic",
        "create_from_random_bytes": "",
        "gguf_empty": "",
        "gguf_random_bytes": "handler_panic",
        "gguf_without_block_count": "panic",
        "kv_cache_type_impossible": "runner_asserted",
        "kv_cache_type_unknown": "",  # Ollama takes the default
        "load_stalled_at_once": "load_abandoned",  # the client gave up before Ollama did
        "manifest_damaged": "",
        "manifest_damaged_at_start": "",
        "ordinary": "load_abandoned",
    },
}
# Told at each poll, and only believed when it is told again some seconds later.
POLLED = {
    ("0.34.4", "blob_missing"): "model_missing model_missing",
    ("0.34.4", "manifest_damaged"): "manifest_damaged",
    ("0.34.4", "manifest_damaged_at_start"): "manifest_damaged",
    ("0.24.0", "blob_missing"): "model_unreadable",
    ("0.24.0", "gguf_empty"): "model_unreadable",
    ("0.24.0", "manifest_damaged"): "manifest_damaged",
    ("0.24.0", "manifest_damaged_at_start"): "manifest_damaged",
}
FILES = [
    pytest.param(version, path, id=f"{version}-{path.stem}")
    for version in EVENTS
    for path in sorted((RECORDED / f"ollama-{version}").glob("*.log"))
]


@pytest.mark.parametrize(("version", "path"), FILES)
def test_a_recording_is_read_for_what_it_was(version: str, path: Path) -> None:
    assert events_of([path.read_bytes()]) == sorted(EVENTS[version][path.stem].split())


@pytest.mark.parametrize(("version", "path"), FILES)
def test_a_recording_read_line_by_line_says_the_same(version: str, path: Path) -> None:
    assert events_of(path.read_bytes().splitlines(keepends=True)) == events_of([path.read_bytes()])


@pytest.mark.parametrize(("version", "fault"), POLLED)
def test_what_is_told_again_later_is_believed(version: str, fault: str) -> None:
    recorded = (RECORDED / f"ollama-{version}" / f"{fault}.log").read_bytes()

    assert events_of([recorded, recorded], pause_s=10.0) == sorted(POLLED[version, fault].split())


@pytest.mark.parametrize("version", EVENTS)
def test_every_recording_is_expected_and_every_expectation_recorded(version: str) -> None:
    recorded = {path.stem for path in (RECORDED / f"ollama-{version}").glob("*.log")}

    assert recorded == set(EVENTS[version])


def events_of(blocks: list[bytes], *, pause_s: float = 0.0) -> list[str]:
    """The outcomes of all events, one word for each time it befell."""
    reading = Reading(lambda _generation, _finding: None)
    reading.begin(1)
    for number, block in enumerate(blocks):
        whole = block if block.endswith(b"\n") else block + b"\n"
        reading.read(1, whole, at=0.0, mono=number * pause_s)
    return sorted(found.outcome for found in reading.findings(1) for _ in range(found.count))
