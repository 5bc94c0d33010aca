"""An ordinary day of an engine under the daemon, as long as one likes: its users, all at once, and a witness."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.engine.ordinary_acts import TALKING
from tests.engine.ordinary_chores import HOUSEKEEPING, OPERATING, PULLING, PULLING_LONG
from tests.engine.ordinary_evidence import Witness, read_own_log
from tests.engine.ordinary_user import Scene, User
from tests.engine.store import install_model
from tests.engine.tiny_gguf import EMBEDDING, OTHER, SLOW, Shape

if TYPE_CHECKING:
    from pathlib import Path

    from tests.engine.ordinary_evidence import Evidence
    from tests.engine.store import ModelFiles

# llama-server prints name and template at each load, the template over several lines. Without words of memory: Ollama
# itself takes those for a failed load when a client leaves in the instant of a health check (llm/status.go).
TALKATIVE = Shape(
    seed=4,
    name="panic: the model",
    chat_template="\n".join(
        (
            "You are a doctor of machines. Of a broken one you say one of these:",
            "Error: CUDA error: unspecified launch failure",
            "panic: runtime error",
            "fatal error: all goroutines are asleep - deadlock!",
            "ggml-cuda.cu:71: GGML_ASSERT(ptr) failed",
            "{% for message in messages %}",
            "Error: {{ message.content }}",
            "{% endfor %}",
        )
    ),
)
SHAPES = {"other": OTHER, "third": Shape(seed=5), "talkative": TALKATIVE, "slow": SLOW, "embedder": EMBEDDING}
ENVIRONMENT = {
    "LLM_MODEL": "tiny",
    "OLLAMA_MAX_LOADED_MODELS": "2",
    "ARASUL_STABLE_SECONDS": "0",
    "ARASUL_LOG_MAX_BYTES": "1GiB",
}


@dataclass(frozen=True, slots=True)
class Day:
    """How long it lasts at least (each user comes to the end of its deck) and how often the operator switches."""

    seconds: float
    pause_s: float
    switch_every_s: float
    has_stalls: bool = True


def install_models(store: Path, files: ModelFiles) -> None:
    """Put the models that people use beside `tiny`."""
    for name, shape in SHAPES.items():
        install_model(store, name, files(shape))


def live_a_day(scene: Scene, rng: random.Random, day: Day) -> Evidence:
    """Let all users at the daemon until the day is over, stop it, and tell what was seen."""
    decks = {
        "Ann": (TALKING, day.pause_s),
        "Bob": (TALKING, day.pause_s),
        "keeper": (HOUSEKEEPING, 4 * day.pause_s),
        "puller": (PULLING_LONG if day.has_stalls else PULLING, 4 * day.pause_s),
        "operator": (OPERATING, 2 * day.switch_every_s),
    }
    users = [
        (User(name, scene, random.Random(rng.random()), pause_s), deck)
        for name, (deck, pause_s) in decks.items()
    ]
    is_closing, nightfall = threading.Event(), threading.Timer(day.seconds, scene.is_over.set)
    nightfall.start()
    with ThreadPoolExecutor(len(users) + 1) as threads:
        watching = threads.submit(Witness(scene.daemon, scene.evidence).watch, is_closing)
        try:
            for life in [threads.submit(user.live, deck) for user, deck in users]:
                life.result()
        finally:
            nightfall.cancel()
            scene.is_over.set()
            is_closing.set()
        watching.result()
    nightfall.join()
    scene.daemon.stop()
    read_own_log(scene.daemon, scene.evidence)
    return scene.evidence
