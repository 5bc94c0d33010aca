"""Guards promise 7: what people say and what they are known by stays between them and the engine."""

from __future__ import annotations

import base64
import gzip
from typing import TYPE_CHECKING, Any

import pytest

from tests.engine.ordinary_evidence import ask
from tests.engine.store import install_model
from tests.engine.tiny_gguf import EMBEDDING, GARBAGE

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator
    from pathlib import Path

    from tests.engine.daemon import Daemon
    from tests.engine.registry import Registry
    from tests.engine.store import ModelFiles

SPEAKERS = ("tiny", "garbage")
SHOWN_BY = (
    "/api/logs?lines=5000",
    "/health",
    "/api/process",
    "/api/info",
    "/api/models",
    "/api/models/pulls",
)


def things_to_say(secret: str, registry_model: str) -> Iterator[tuple[str, dict[str, object]]]:
    """Requests that hold the secret in every place where people put what is theirs."""
    said = [{"role": "system", "content": secret}, {"role": "user", "content": f"my password is {secret}"}]
    schema = {
        "type": "object",
        "properties": {secret: {"type": "string", "pattern": f"^{secret}(", "enum": [secret]}},
        "required": [secret],
    }
    tool = {"type": "function", "function": {"name": secret, "description": secret, "parameters": schema}}
    called = {"function": {"name": secret, "arguments": {"key": secret}}}
    picture = base64.b64encode(secret.encode()).decode()
    for model in SPEAKERS:
        base: dict[str, object] = {"model": model, "options": {"num_predict": 30, "stop": [secret]}}
        yield "/api/generate", {**base, "prompt": secret, "system": secret, "suffix": secret}
        yield "/api/generate", {**base, "prompt": secret, "system": secret}
        yield "/api/generate", {**base, "prompt": secret, "template": f"{secret} {{{{ .Prompt }}}}"}
        yield "/api/generate", {**base, "prompt": secret, "template": f"{{{{ {secret}"}
        yield "/api/generate", {**base, "prompt": secret, "raw": True, "stream": False}
        yield "/api/generate", {**base, "prompt": secret, "format": schema}
        yield "/api/generate", {**base, "prompt": f"{secret} " * 2000}
        yield "/api/generate", {**base, "prompt": "a", "images": [picture]}
        yield (
            "/api/generate",
            {**base, "prompt": "a", "options": {"no_such_option": secret, "num_predict": secret}},
        )
        yield "/api/generate", {**base, "prompt": "a", "keep_alive": secret}
        yield "/api/chat", {**base, "messages": said}
        yield "/api/chat", {**base, "messages": said, "tools": [tool]}
        yield "/api/chat", {**base, "messages": said, "format": schema}
        yield "/api/chat", {**base, "messages": [*said, {"role": "assistant", "tool_calls": [called]}]}
        yield "/api/chat", {**base, "messages": [{"role": "user", "content": f"{secret} " * 2000}]}
        yield "/api/chat", {**base, "messages": said, "think": secret}
        yield "/v1/chat/completions", {"model": model, "messages": said, "tools": [tool], "max_tokens": 20}
        yield "/v1/chat/completions", {"model": model, "messages": said, "user": secret, "max_tokens": secret}
        yield "/v1/completions", {"model": model, "prompt": secret, "suffix": secret, "max_tokens": 20}
        yield "/v1/responses", {"model": model, "input": secret, "max_output_tokens": 20}
        yield "/v1/messages", {"model": model, "messages": said[1:], "system": secret, "max_tokens": 20}
    yield "/api/embed", {"model": "embedder", "input": [secret, f"{secret} " * 3000]}
    yield "/api/embed", {"model": "embedder", "input": f"{secret} " * 3000, "truncate": False}
    yield "/v1/embeddings", {"model": "embedder", "input": secret}
    yield (
        "/api/create",
        {
            "model": "mine",
            "from": "tiny",
            "system": secret,
            "template": f"{secret} {{{{ .Prompt }}}}",
            "license": secret,
            "messages": said,
            "parameters": {"stop": [secret]},
        },
    )
    yield "/api/chat", {"model": "mine", "messages": said, "options": {"num_predict": 5}}
    yield "/api/show", {"model": "mine"}
    yield "/api/pull", {"model": registry_model, "insecure": True, "username": secret, "password": secret}
    yield "/api/models/pull", {"model": registry_model, "insecure": True, "password": secret}
    yield "/api/pull", {"model": f"http://user:{secret}@{registry_model}", "insecure": True}
    yield "/api/models/pull", {"model": f"http://user:{secret}@{registry_model}", "insecure": True}


def places_with(secret: str, daemon: Daemon) -> list[str]:
    """Each public place that shows the secret, with the line."""
    pages = {path: daemon.get(path).body.decode(errors="replace") for path in SHOWN_BY}
    logs = {file.name: file.read_bytes() for file in daemon.folder.glob("ollama.log*")}
    pages |= {
        name: (gzip.decompress(content) if name.endswith(".gz") else content).decode(errors="replace")
        for name, content in logs.items()
    }
    pages["stdout and stderr"] = daemon.log_text()
    return [
        f"{place}: …{text[max(0, at - 300) : at + 100]}…"
        for place, text in pages.items()
        if (at := text.find(secret)) >= 0
    ]


@pytest.mark.parametrize("debug", ["0", "1", "2"], ids=lambda level: f"OLLAMA_DEBUG={level}")
def test_nothing_private_leaves_the_raw_log(
    real_daemon: Any,
    tiny_model_store: Path,
    model_files: ModelFiles,
    registry: Registry,
    rng: random.Random,
    debug: str,
) -> None:
    install_model(tiny_model_store, "embedder", model_files(EMBEDDING))
    install_model(tiny_model_store, "garbage", model_files(GARBAGE))
    secret = f"hush{rng.getrandbits(48):012x}"
    proxy = f"http://someone:{secret}@127.0.0.1:9"
    running: Daemon = real_daemon(
        {
            "LLM_MODEL": "tiny",
            "OLLAMA_DEBUG": debug,
            "HTTPS_PROXY": proxy,
            "HTTP_PROXY": proxy,
            "ALL_PROXY": proxy,
            "OLLAMA_API_KEY": secret,
        }
    )
    headers = {"Authorization": f"Bearer {secret}", "X-Api-Key": secret, "Cookie": f"session={secret}"}
    query = f"?token={secret}&api_key={secret}&password={secret}"
    pulled = registry.put("new", model_files())

    for path, body in things_to_say(secret, pulled):
        for port in (running.port, running.engine_port):
            ask(port, "POST", path + query, body, headers=headers)
            ask(port, "POST", path, f'{{"model": "tiny", "{secret}'.encode(), headers=headers)
    installed = running.get("/api/models").json()["models"]
    shown = places_with(secret, running)

    assert pulled in [model["name"] for model in installed]
    assert "HTTPS_PROXY" in running.engine_log_text()
    assert shown == []
