"""Faults of running runners, of requests, and of the server itself."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from functools import partial
from typing import TYPE_CHECKING

from tests.engine import tiny_gguf
from tests.engine.fault_ground import Fault, variables, without_debugger
from tests.engine.processes import is_alive, wait_until

if TYPE_CHECKING:
    from tests.engine.fault_ground import Ground


def signal_idle(ground: Ground, number: signal.Signals) -> None:
    """The runner ends between two requests."""
    ground.generate()
    runner = ground.wait_runner()
    os.kill(runner, number)
    wait_until(lambda: not is_alive(runner), limit_s=10, what="the runner is gone")
    time.sleep(1)
    ground.generate()


def signal_while_answering(ground: Ground, number: signal.Signals) -> None:
    """The runner ends in the middle of an answer; then one more request is made."""
    with ground.answering():
        ground.signal_runner(number)
    ground.generate()


def leave_while_answering(ground: Ground) -> None:
    """The client goes away in the middle of an answer."""
    ground.generate()
    ground.abandon(
        "/api/generate", {"model": "tiny", "prompt": "a", "options": {"num_predict": 100_000}}, after_s=0.5
    )
    ground.generate()


def delete_while_loaded(ground: Ground) -> None:
    """A loaded model is deleted, and then asked and unloaded."""
    ground.generate()
    ground.request("DELETE", "/api/delete", {"model": "tiny"})
    ground.generate()
    ground.request("POST", "/api/generate", {"model": "tiny", "keep_alive": 0})


def fill_queue(ground: Ground) -> None:
    """More loads than the queue holds, behind one that stands still; requests for loaded models pass the queue by."""
    ground.install("other", tiny_gguf.OTHER)
    tiny, other = (
        {"model": model, "prompt": "a", "options": {"num_predict": 4}} for model in ("tiny", "other")
    )
    with contextlib.ExitStack() as waiting:
        waiting.enter_context(ground.meanwhile("POST", "/api/generate", tiny))
        runner = ground.wait_runner()
        os.kill(runner, signal.SIGSTOP)
        for _ in range(6):
            waiting.enter_context(ground.meanwhile("POST", "/api/generate", other, timeout_s=10))
            time.sleep(0.1)
        os.kill(runner, signal.SIGCONT)


def repeat(ground: Ground) -> None:
    """A model that says one letter for ever."""
    ground.install("repeats", tiny_gguf.REPEATING)
    ground.generate("repeats", options={"num_predict": 400, "temperature": 0})


def speak_garbage(ground: Ground) -> None:
    """A model whose output is no UTF-8, asked in both ways."""
    ground.install("garbage", tiny_gguf.GARBAGE)
    ground.generate("garbage", options={"num_predict": 100, "seed": 1})
    messages = [{"role": "user", "content": "a"}]
    body = {
        "model": "garbage",
        "messages": messages,
        "stream": False,
        "options": {"num_predict": 100, "seed": 1},
    }
    ground.request("POST", "/api/chat", body)


def embed_with_chat_model(ground: Ground) -> None:
    """A model that cannot embed is asked to."""
    ground.request("POST", "/api/embed", {"model": "tiny", "input": "abc"})


def ask_in_small_batches(ground: Ground) -> None:
    """One option of a request ends the runner of a good model."""
    ground.generate(options={"num_batch": 1})


def ask_with_unknown_tokens(ground: Ground) -> None:
    """One field of a request ends the whole server of the older generation."""
    ground.request(
        "POST", "/api/generate", {"model": "tiny", "prompt": "a", "stream": False, "context": [-1]}
    )
    ground.request("GET", "/api/version")


def signal_server(ground: Ground, number: signal.Signals) -> None:
    """The server ends in the middle of an answer."""
    with ground.answering():
        os.kill(ground.server_pid(), number)


RUNNER_FAULTS = {
    "runner_killed_idle": Fault(partial(signal_idle, number=signal.SIGKILL)),
    "runner_killed_answering": Fault(partial(signal_while_answering, number=signal.SIGKILL)),
    "runner_segfaulted_answering": Fault(partial(signal_while_answering, number=signal.SIGSEGV)),
    "runner_aborted_answering": Fault(partial(signal_while_answering, number=signal.SIGABRT)),
    "client_left_while_answering": Fault(leave_while_answering),
    "deleted_while_loaded": Fault(delete_while_loaded),
    "queue_full": Fault(fill_queue, variables(OLLAMA_MAX_QUEUE="2")),
    "repeat_limit": Fault(repeat),
    "garbage_output": Fault(speak_garbage),
    "embed_refused": Fault(embed_with_chat_model),
    "assert_by_request": Fault(ask_in_small_batches, without_debugger, family="0.34"),
    "context_of_unknown_tokens": Fault(ask_with_unknown_tokens, without_debugger),
    "server_killed": Fault(partial(signal_server, number=signal.SIGKILL)),
    "server_segfaulted": Fault(partial(signal_server, number=signal.SIGSEGV)),
    "server_quit": Fault(partial(signal_server, number=signal.SIGQUIT)),
}
