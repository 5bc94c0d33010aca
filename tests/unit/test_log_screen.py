"""Guards events of several lines, and that a model's own text is not taken for the engine's."""

from __future__ import annotations

import pytest

from arasul_supervisor.logs.meaning.blocks import GATHERED_LINES
from arasul_supervisor.logs.meaning.screen import Screened, screen

GO = "panic: boom\n\ngoroutine 1 [running]:\nmain.main()\n\t/src/main.go:12 +0x1d\nexit status 2\n"
CUDA = (
    "CUDA error: an illegal memory access was encountered\n"
    "  current device: 0, in function ggml_backend_cuda_synchronize at /src/ggml-cuda.cu:2981\n"
    "  cudaStreamSynchronize(cuda_ctx->stream())\n"
    "/src/ggml-cuda.cu:88: CUDA error\n"
)
ASSERTION = (
    "/src/ggml.c:3240: GGML_ASSERT(a->ne[2] == b->ne[0]) failed\n"
    "/opt/libggml-base.so(+0x1a1b8)[0x7f3c]\n"
    "/opt/libggml-base.so(ggml_abort+0x152)[0x7f3c]\n"
)
RECOVERY = (
    "\x1b[31m2026/11/23 22:13:43 [Recovery] 2026/11/23 - 22:13:43 panic recovered:\n"
    "GET /api/tags HTTP/1.1\n\nruntime error: makeslice: len out of range\n"
    "/usr/local/go/src/runtime/panic.go:115 (0x47f0d3)\n\tpanicmakeslicelen: panic(errorString())\n"
)
LOGGED = "time=2026-11-23T07:32:48.871Z level=INFO source=x.go:1 msg=x\n"
TEMPLATE = (
    "srv          init: init: chat template, example_format: 'Error: Hello\nError: Hi\npanic: a word\n'\n"
)


@pytest.mark.parametrize(
    ("text", "outcome", "rest"),
    [
        pytest.param(
            GO, "panic", ["goroutine 1 [running]:", "main.main()", "\t/src/main.go:12 +0x1d"], id="Go"
        ),
        pytest.param(CUDA, "gpu_fault", CUDA.splitlines()[1:], id="CUDA"),
        pytest.param(ASSERTION, "runner_asserted", ASSERTION.splitlines()[1:], id="llama.cpp"),
        pytest.param(
            RECOVERY, "handler_panic", [line for line in RECOVERY.splitlines()[1:] if line], id="gin"
        ),
    ],
)
def test_an_event_of_several_lines_is_one_with_its_first_lines(
    text: str, outcome: str, rest: list[str]
) -> None:
    screened = screen(text.encode())

    assert outcomes(screened) == {0: outcome}
    assert list(screened.lines[0][1:]) == rest


@pytest.mark.parametrize("text", [GO, CUDA, ASSERTION, RECOVERY])
def test_an_event_goes_on_over_blocks(text: str) -> None:
    first_line, _, rest = text.encode().partition(b"\n")
    first = screen(first_line + b"\n")
    second = screen(rest, first.after)

    assert (*first.lines[0], *second.lines[-1]) == screen(text.encode()).lines[0]


def test_other_lines_between_those_of_an_event_are_passed_over() -> None:
    lines = CUDA.splitlines(keepends=True)
    mixed = lines[0] + LOGGED + lines[1] + "srv  update_slots: all slots are idle\n" + lines[2]

    assert list(screen(mixed.encode()).lines[0][1:]) == [line.rstrip() for line in lines[1:3]]


def test_the_next_event_ends_the_one_before() -> None:
    screened = screen((GO + CUDA).encode())

    assert outcomes(screened) == {0: "panic", 6: "gpu_fault"}
    assert "goroutine 1 [running]:" not in screened.lines[6]


def test_of_a_long_stack_the_first_lines_are_kept() -> None:
    screened = screen(("panic: x\n" + "\tframe\n" * 500).encode())

    assert len(screened.lines[0]) == 1 + GATHERED_LINES
    assert screened.after.opened is None


def test_an_event_is_over_after_some_strange_lines() -> None:
    assert screen(("panic: x\n" + LOGGED * 20).encode()).after.opened is None


def test_private_text_never_joins_an_event() -> None:
    text = "panic: x\ncommon_chat_peg_parse: unparsed a output: secret\n\tsecret too\n"

    screened = screen(text.encode())

    assert screened.lines[0] == ("panic: x",)
    assert b"secret" not in screened.data


def test_what_goes_on_with_an_event_is_redacted() -> None:
    assert screen(b"panic: x\n\ttoken=abcdef\n").lines[0] == ("panic: x", "\ttoken=[redacted]")


def test_the_example_of_a_models_chat_template_means_nothing() -> None:
    end = "srv          init: init: chat template, thinking = 0\n"

    screened = screen((TEMPLATE + end + "panic: a real one\n").encode())

    assert outcomes(screened) == {5: "panic"}


def test_a_template_goes_on_over_blocks() -> None:
    first = screen(TEMPLATE.encode())
    second = screen(b"panic: a word\n", first.after)
    third = screen(b"srv  llama_server: model loaded \npanic: a real one\n", second.after)

    assert (outcomes(first), outcomes(second), outcomes(third)) == ({}, {}, {1: "panic"})


def test_what_ollama_itself_logs_amid_a_template_counts() -> None:
    died = LOGGED.replace(
        "msg=x", 'msg="llama-server process no longer running" sys=9 string="signal: killed"'
    )

    screened = screen((TEMPLATE + died + "panic: a real one\n").encode())

    assert outcomes(screened) == {4: "runner_died", 5: "panic"}


def outcomes(screened: Screened) -> dict[int, str]:
    """The outcome of each line that has one."""
    return {index: match.outcome for index, match in screened.matches.items()}
