"""What people do with an engine on an ordinary day: talk to models, keep house among them, pull, and operate it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from urllib.parse import quote

from tests.engine.ordinary_user import TALK

if TYPE_CHECKING:
    from tests.engine.ordinary_user import User

CHAT_MODELS = ("tiny", "other", "third", "talkative", "slow")
EMBEDDER = "embedder"
BAD_BODIES = (
    b"",
    b"{",
    b"[]",
    b'{"model":5}',
    b'{"model":"tiny","prompt":"a","keep_alive":"5"}',
    b'{"model":"tiny","prompt":"a","keep_alive":true}',
    b'{"model":"tiny","prompt":"a","options":{"num_predict":"many"}}',
    b'{"model":"tiny","prompt":"a","format":"prose"}',
    b'{"model":"tiny","prompt":"a","images":["no base64"]}',
    b'{"model":"tiny","messages":[{"role":"nobody","content":5}]}',
    b'{"model":"panic: out of memory","prompt":"a"}',
    b'{"model":"Error: CUDA error","prompt":"a"}',
)
API_PATHS = ("generate", "chat", "embed", "embeddings", "show", "copy", "create")
VERBS = ("GET", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE")


def _short(user: User) -> dict[str, object]:
    return {"num_predict": user.rng.randint(1, 40), "seed": user.rng.randint(0, 9)}


def asks_once(user: User) -> None:
    """A short answer, streamed or not."""
    stream = user.rng.random() < 0.5
    model = user.rng.choice(CHAT_MODELS)
    user.posts("/api/generate", model=model, prompt=user.talk(), stream=stream, options=_short(user))


def chats(user: User) -> None:
    """A conversation of three turns."""
    model, messages = user.rng.choice(CHAT_MODELS), [{"role": "system", "content": user.talk()}]
    for _ in range(3):
        messages.append({"role": "user", "content": user.talk()})
        user.posts(
            "/api/chat", model=model, messages=messages, stream=user.rng.random() < 0.5, options=_short(user)
        )


def preloads(user: User) -> None:
    """Loads by generate and by chat, without a prompt."""
    user.posts("/api/generate", model=user.rng.choice(CHAT_MODELS))
    user.posts("/api/chat", model=user.rng.choice(CHAT_MODELS), messages=[])


def listens_long(user: User) -> None:
    """A long answer, to its end."""
    user.posts("/api/generate", model="tiny", prompt=user.talk(), options={"num_predict": 1500})


def leaves_during_an_answer(user: User) -> None:
    """Clients that go at any instant of a long answer."""
    for path, body in (("/api/generate", {"prompt": user.talk()}), ("/api/chat", {"messages": _said(user)})):
        for stream in (True, False):
            user.posts(
                path,
                model="tiny",
                stream=stream,
                options={"num_predict": 5000},
                patience_s=user.soon(1.0),
                **body,
            )


def leaves_during_a_load(user: User) -> None:
    """Clients that go at any instant of a load, by each way to load."""
    for path, body in (
        ("/api/generate", {"prompt": "a"}),
        ("/api/generate", {}),
        ("/api/chat", {"messages": _said(user)}),
        ("/v1/chat/completions", {"messages": _said(user)}),
    ):
        model = user.rng.choice(CHAT_MODELS)
        user.posts("/api/generate", model=model, keep_alive=0)
        user.posts(path, model=model, patience_s=user.soon(0.4), **body)
    user.posts("/api/generate", model=EMBEDDER, keep_alive=0)
    user.posts("/api/embed", model=EMBEDDER, input=user.talk(), patience_s=user.soon(0.3))


def leaves_the_queue(user: User) -> None:
    """Clients that go while the model answers others, and while another model waits for room."""
    with user.begun("/api/generate", model="tiny", prompt="a", options={"num_predict": 4000}):
        for model in ("tiny", "tiny", "slow", "other"):
            user.posts("/api/generate", model=model, prompt="b", patience_s=user.soon(0.5))


def embeds(user: User) -> None:
    """Embeddings, one, many, of nothing, and of a model that has none."""
    user.posts("/api/embed", model=EMBEDDER, input=user.talk())
    user.posts("/api/embed", model=EMBEDDER, input=list(TALK))
    user.posts("/api/embed", model=EMBEDDER)
    user.posts("/api/embeddings", model=EMBEDDER, prompt=user.talk())
    user.posts("/api/embed", model=EMBEDDER, input="word " * 5000)
    user.posts("/api/embed", model=EMBEDDER, input="word " * 5000, truncate=False)
    user.posts("/api/embed", model="tiny", input=user.talk())
    user.posts("/api/generate", model=EMBEDDER, prompt="a")


def speaks_openai(user: User) -> None:
    """What clients of other services send."""
    model = user.rng.choice(CHAT_MODELS)
    user.asks("GET", "/v1/models")
    user.asks("GET", f"/v1/models/{model}")
    for stream in (False, True):
        user.posts("/v1/chat/completions", model=model, messages=_said(user), stream=stream, max_tokens=20)
        user.posts("/v1/completions", model=model, prompt=user.talk(), stream=stream, max_tokens=20)
    user.posts("/v1/responses", model=model, input=user.talk(), max_output_tokens=20)
    user.posts("/v1/messages", model=model, messages=_said(user), max_tokens=20)
    user.posts("/v1/embeddings", model=EMBEDDER, input=user.talk())
    user.posts("/v1/chat/completions", model=model, messages=[], max_tokens="many")


def asks_for_structure(user: User) -> None:
    """JSON, a schema, and tools, of models that know none of it."""
    schema = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}
    tool = {
        "type": "function",
        "function": {"name": "panic", "description": user.talk(), "parameters": schema},
    }
    user.posts("/api/generate", model="tiny", prompt="a", format="json", options=_short(user))
    user.posts("/api/generate", model="tiny", prompt="a", format=schema, options=_short(user))
    user.posts("/api/chat", model="talkative", messages=_said(user), tools=[tool], options=_short(user))
    user.posts("/api/chat", model="tiny", messages=_said(user), think=True, options=_short(user))


def asks_too_much_at_once(user: User) -> None:
    """A prompt far beyond the context."""
    user.posts("/api/generate", model="tiny", prompt="word " * 4000, options=_short(user))
    user.posts(
        "/api/chat", model="tiny", messages=[{"role": "user", "content": "w " * 9000}], options=_short(user)
    )


def changes_the_context(user: User) -> None:
    """Options that load the model anew, above what the model knows too."""
    for num_ctx in user.rng.sample((256, 512, 1024, 2048, 100_000), 3):
        user.posts("/api/generate", model="other", prompt="a", options={**_short(user), "num_ctx": num_ctx})


def uses_more_models_than_fit(user: User) -> None:
    """One model after the other: each third evicts one."""
    for model in user.rng.sample((*CHAT_MODELS, EMBEDDER), 5):
        path = "/api/embed" if model == EMBEDDER else "/api/generate"
        user.posts(path, model=model, prompt="a", input="a", options=_short(user))


def lets_a_model_expire(user: User) -> None:
    """A keep-alive shorter than the pause after it."""
    user.posts("/api/generate", model="third", prompt="a", keep_alive=0.3, options=_short(user))
    time.sleep(0.8)
    user.posts("/api/generate", model="third", prompt="a", keep_alive="1s", options=_short(user))


def unloads(user: User) -> None:
    """By the API's own way, in all its forms."""
    user.posts("/api/generate", model=user.rng.choice(CHAT_MODELS), keep_alive=0)
    user.posts("/api/chat", model=user.rng.choice(CHAT_MODELS), messages=[], keep_alive="0s")
    user.posts(
        "/api/generate", model=user.rng.choice(CHAT_MODELS), prompt="a", keep_alive=0, options=_short(user)
    )
    user.posts("/api/embed", model=EMBEDDER, input="a", keep_alive=0)


def errs(user: User) -> None:
    """Unknown models, bad bodies, wrong paths and methods, with words of alarm in all of them."""
    for body in user.rng.sample(BAD_BODIES, 6):
        user.asks("POST", f"/api/{user.rng.choice(API_PATHS)}", body)
    for path in ("generate", "chat", "embed", "show"):
        user.posts(f"/api/{path}", model="fatal-error:out-of-memory", prompt="a", messages=[])
    text = quote(user.talk(), safe="")
    user.asks("GET", f"/{text}")
    user.asks("POST", f"/api/{text}?{text}", b"{}")
    user.asks("POST", f"/v1/{text}?error={text}", b"{}")
    for verb in VERBS:
        user.asks(
            verb, user.rng.choice(("/", "/api/tags", "/api/chat", "/api/version", "/v1/models", f"/{text}"))
        )
    user.asks("HEAD", f"/api/blobs/sha256:{'0' * 64}")
    user.asks("OPTIONS", "*", at="engine")


def _said(user: User) -> list[dict[str, str]]:
    return [{"role": "user", "content": user.talk()}]


TALKING = (
    asks_once,
    chats,
    preloads,
    listens_long,
    leaves_during_an_answer,
    leaves_during_a_load,
    leaves_the_queue,
    embeds,
    speaks_openai,
    asks_for_structure,
    asks_too_much_at_once,
    changes_the_context,
    uses_more_models_than_fit,
    lets_a_model_expire,
    unloads,
    errs,
)
