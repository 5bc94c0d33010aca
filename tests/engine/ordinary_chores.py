"""The chores of an ordinary day: models that come and go, pulls over a poor network, and an operator's switches."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tests.engine.store import digest_of
from tests.engine.tiny_gguf import Shape, write_gguf

if TYPE_CHECKING:
    from tests.engine.ordinary_user import User

NAMES = ("panic:out-of-memory", "error:cuda-error", "fatal-error/load-failed:no-space-left-on-device")
SLOWLY = 300 * 1024.0  # bytes per second: 1.5 s for a model
MODEL_BYTES = 450_000
OLLAMAS_STALL_LIMIT_S = 30.0


def looks_around(user: User) -> None:
    """Lists, details, states, on both ports."""
    for path in ("/api/tags", "/api/ps", "/api/version", "/v1/models", "/"):
        user.asks("GET", path, at="engine")
    for path in (
        "/api/models",
        "/api/models/loaded",
        "/api/models/pulls",
        "/api/stats",
        "/api/info",
        "/api/tags",
    ):
        user.asks("GET", path, at="management")
    for name in ("tiny", "embedder", "talkative", "nosuch"):
        user.posts("/api/show", model=name)


def copies_uses_and_deletes(user: User) -> None:
    """A second name for a model, a name of alarm, used and deleted, while it is loaded too."""
    for at, path, method in (
        ("management", "/api/models/delete", "DELETE"),
        ("engine", "/api/delete", "DELETE"),
        ("management", "/api/delete", "DELETE"),
    ):
        name = user.rng.choice(NAMES)
        user.posts("/api/copy", source="tiny", destination=name)
        user.posts("/api/generate", model=name, prompt=user.talk(), options={"num_predict": 5})
        if user.rng.random() < 0.5:
            user.posts("/api/generate", model=name, keep_alive=0)
        user.asks(method, path, {"model": name}, at=at)
    user.posts("/api/copy", source="nosuch", destination="x")
    user.asks("DELETE", "/api/delete", {"model": "nosuch"})
    user.asks("DELETE", "/api/models/delete", {"model": "nosuch"}, at="management")


def creates(user: User) -> None:
    """A model from another one, and one from an uploaded file."""
    name = user.rng.choice(NAMES)
    made = {
        "model": name,
        "from": "tiny",
        "system": user.talk(),
        "template": "{{ .System }} Error: {{ .Prompt }}",
        "parameters": {"num_ctx": 512, "stop": ["panic:"]},
    }
    user.asks("POST", "/api/create", made)
    user.posts("/api/chat", model=name, messages=[{"role": "user", "content": user.talk()}])
    user.asks("DELETE", "/api/delete", {"model": name})
    gguf = user.scene.gguf
    user.asks("POST", f"/api/blobs/{digest_of(gguf)}", gguf)
    user.posts("/api/create", model="uploaded", files={"x.gguf": digest_of(gguf)})
    user.posts("/api/generate", model="uploaded", prompt="a", options={"num_predict": 5})
    user.asks("DELETE", "/api/models/delete", {"model": "uploaded"}, at="management")
    user.posts("/api/create", model="nothing")
    user.asks("POST", f"/api/blobs/sha256:{'0' * 64}", b"something else")


def clears_the_cache(user: User) -> None:
    """With models loaded, while one answers, and with nothing left to clear."""
    user.posts("/api/generate", model="other")
    with user.begun("/api/generate", model="tiny", prompt="a", options={"num_predict": 300}):
        user.posts("/api/cache/clear", at="management")
    user.posts("/api/cache/clear", at="management")


def resets_the_session(user: User) -> None:
    """Back to the default model, as a chat program does between users."""
    user.posts("/api/session/reset", at="management")
    user.posts("/api/session/reset", at="management", model="embedder")
    user.posts("/api/session/reset", at="management", model="nosuch")


HOUSEKEEPING = (looks_around, copies_uses_and_deletes, creates, clears_the_cache, resets_the_session)


def pulls_fresh_and_again(user: User) -> None:
    """A model that is not there, and the same one a second time."""
    with Offer(user) as offer:
        offer.pull()
        offer.pull()
        user.posts("/api/generate", model=offer.name, prompt="a", options={"num_predict": 5})


def cancels_and_resumes(user: User) -> None:
    """Clients that leave a pull at any instant, and come back."""
    with Offer(user, bytes_per_s=SLOWLY) as offer:
        for _ in range(3):
            offer.pull(patience_s=user.soon(1.0))
        offer.pull()


def cancels_a_pull_in_the_background(user: User) -> None:
    """By DELETE on its job, the parts kept or not."""
    with Offer(user, bytes_per_s=SLOWLY) as offer:
        for purge in ("", "?purge=true"):
            offer.pull(background=True)
            time.sleep(user.soon(0.8))
            offer.cancel(purge)
        offer.pull()


def pulls_twice_at_once(user: User) -> None:
    """Two programs that want the same model, and a third that joins."""
    with Offer(user, bytes_per_s=SLOWLY) as offer:
        offer.pull(background=True)
        offer.pull(at="engine", patience_s=user.soon(0.5))
        offer.pull(at="engine")
        offer.pull(at="management")


def pulls_over_a_poor_network(user: User) -> None:
    """A registry that closes in mid-body twice: Ollama tries again by itself."""
    with Offer(user, close_after_bytes=user.rng.randrange(1, MODEL_BYTES), faults_left=2) as offer:
        offer.pull()


def pulls_through_a_stall(user: User) -> None:
    """A part that stands still until Ollama asks for it anew."""
    with Offer(user, stall_after_bytes=user.rng.randrange(1, MODEL_BYTES), faults_left=1) as offer:
        offer.pull(patience_s=2 * OLLAMAS_STALL_LIMIT_S)


def pulls_what_is_not_there(user: User) -> None:
    """A name with a mistake in it, a registry that is down, one that has TLS and is asked without."""
    with Offer(user) as offer:
        user.posts("/api/pull", model=offer.name + "x", insecure=True)
        user.posts("/api/models/pull", at="management", model=offer.name + "x", insecure=True)
        user.posts("/api/pull", model=offer.name)
        user.posts("/api/pull", model="127.0.0.1:1/library/tiny", insecure=True)
        user.posts("/api/pull", model="panic: out of memory")


PULLING = (
    pulls_fresh_and_again,
    cancels_and_resumes,
    cancels_a_pull_in_the_background,
    pulls_twice_at_once,
    pulls_over_a_poor_network,
    pulls_what_is_not_there,
)
PULLING_LONG = (*PULLING, pulls_through_a_stall)


def restarts(user: User) -> None:
    """As after a change of the settings."""
    user.posts("/api/process/restart", at="management")
    _until_it_answers(user)


def stops_and_starts(user: User) -> None:
    """A stop, some asking meanwhile, and a start."""
    user.posts("/api/process/stop", at="management")
    user.posts("/api/generate", model="tiny", prompt="a", at="management")
    user.posts("/api/cache/clear", at="management")
    time.sleep(user.soon(1.0))
    user.posts("/api/process/start", at="management")
    _until_it_answers(user)


def restarts_during_a_load(user: User) -> None:
    """Where it hurts most."""
    user.posts("/api/generate", model="slow", keep_alive=0)
    with user.begun("/api/generate", model="slow", prompt="a"):
        time.sleep(user.soon(0.4))
        user.posts("/api/process/restart", at="management")
    _until_it_answers(user)


OPERATING = (restarts, stops_and_starts, restarts_during_a_load)


def _until_it_answers(user: User) -> None:
    user.scene.daemon.wait_ready(limit_s=30)


class Offer:
    """A model that the registry has and nobody pulled yet; gone from everywhere at the end."""

    def __init__(self, user: User, **switches: float | None) -> None:
        self._user, self._registry = user, user.scene.registry
        self._switches = switches
        user.scene.n_names += 1
        seed = 1000 + user.scene.n_names
        file = write_gguf(user.scene.folder / f"m{seed}.gguf", Shape(seed=seed))
        self.name = self._registry.put(f"m{seed}", file)
        file.unlink()

    def __enter__(self) -> Offer:
        for switch, value in self._switches.items():
            setattr(self._registry.switches, switch, value)
        return self

    def __exit__(self, *exc: object) -> None:
        self._registry.switches = type(self._registry.switches)()
        self._user.asks("DELETE", "/api/models/delete", {"model": self.name}, at="management")
        self._registry.models.pop(self.name.partition("/")[2])

    def pull(self, *, at: str | None = None, patience_s: float = 60.0, **body: object) -> None:
        """Ask for it, on any port; `background` is the management port's alone."""
        where = "management" if body else at or self._user.rng.choice(("engine", "management"))
        path = "/api/models/pull" if where == "management" else "/api/pull"
        if patience_s < 60.0 and where == "management":
            body["cancel_on_disconnect"] = True
        self._user.posts(path, at=where, patience_s=patience_s, model=self.name, insecure=True, **body)

    def cancel(self, query: str) -> None:
        """Cancel the newest job of the daemon."""
        pulls = self._user.scene.daemon.get("/api/models/pulls").json()["pulls"]
        for job in pulls[:1]:
            self._user.asks("DELETE", f"/api/models/pulls/{job['id']}{query}", at="management")
