"""Guards "passive first": how often Ollama is asked what is loaded (a line in its log each), and what is believed."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from arasul_supervisor.errors import EngineSilent
from arasul_supervisor.healing.history.history import History
from arasul_supervisor.healing.looking.loaded_models import LoadedModels, Weights, read_weights
from arasul_supervisor.healing.looking.witnesses import ModelsLook, RunnerLook, Witness
from arasul_supervisor.model_store.reader import StoreUnread
from arasul_supervisor.ollama.models import LoadedModel
from tests.engine.log_ground import HandClock
from tests.unit.healing_desk import StubStore
from tests.unit.healing_looks import PROCESS, RUNNER, seen

if TYPE_CHECKING:
    from pathlib import Path

START = 1000.0
OTHER = replace(RUNNER, process=replace(PROCESS, identity=(8, 100)), blob="sha256:b")
INSTALLED = {"a:latest": frozenset({"sha256:a"}), "b:latest": frozenset({"sha256:b"})}
SOON, LATER = "1970-01-01T00:17:00Z", "1970-01-01T03:00:00Z"  # 20 s after START, and three hours


class Ollama:
    """Lists what the test says, and counts how often it was asked."""

    def __init__(self) -> None:
        self.names: tuple[str, ...] = ("a:latest",)
        self.expires_at = LATER
        self.silent = False
        self.asked_mono: list[float] = []
        self.clock = HandClock()
        self.clock.now = START

    async def loaded(self, *, timeout_s: float) -> tuple[LoadedModel, ...]:
        self.asked_mono.append(self.clock.now)
        if self.silent:
            raise EngineSilent(f"No answer within {timeout_s:g} s.")
        return tuple(LoadedModel(name, 1, 0, 2048, self.expires_at, "sha256:m") for name in self.names)


class Watch:
    """The witness, looked at every 2 s beside the runners that the test gives."""

    def __init__(self, *runners: RunnerLook) -> None:
        self.ollama, self.runners = Ollama(), runners
        self.store = StubStore(Weights(INSTALLED, is_whole=True))
        self.models = LoadedModels(self.ollama, self.store, self.ollama.clock)  # type: ignore[arg-type]  # stand-ins
        self.history = History()
        self.witness: Witness[ModelsLook] = Witness()

    async def go_on(self, seconds: float) -> int:
        """How often Ollama was asked in so many seconds."""
        n_before, clock = len(self.ollama.asked_mono), self.ollama.clock
        end = clock.now + seconds
        while clock.now < end:
            clock.now += 2.0
            self.witness = await self.models.look(self.history, 2.0)
            look = replace(seen(clock.now, *self.runners), models=self.witness)
            self.history = self.history.after(look)
        return len(self.ollama.asked_mono) - n_before

    @property
    def value(self) -> ModelsLook:
        """What is believed now."""
        assert self.witness.value is not None
        return self.witness.value


async def settled(*runners: RunnerLook, names: tuple[str, ...] = ("a:latest",)) -> Watch:
    """After a minute, when nothing is new any more."""
    watch = Watch(*runners)
    watch.ollama.names = names
    await watch.go_on(60)
    return watch


async def test_without_a_runner_nobody_is_asked() -> None:
    assert await Watch().go_on(600) == 0


async def test_two_idle_runners_cost_one_question_in_thirty_seconds() -> None:
    watch = await settled(RUNNER, OTHER, names=("a:latest", "b:latest"))

    assert await watch.go_on(600) == 20


async def test_a_new_runner_is_asked_about_at_the_next_look() -> None:
    watch = await settled()
    watch.runners = (RUNNER,)

    assert await watch.go_on(4) == 1


async def test_a_runner_that_is_gone_is_asked_about_until_that_is_certain() -> None:
    watch = await settled(RUNNER)
    watch.runners = ()

    assert await watch.go_on(12) >= 2


@pytest.mark.parametrize("names", [("a:latest",), ("gone:latest",)], ids=["at rest", "deleted while loaded"])
async def test_a_model_that_is_listed_for_ever_without_a_runner_is_not_asked_about_for_ever(
    names: tuple[str, ...],
) -> None:
    watch = await settled(RUNNER, names=names)
    watch.runners = ()
    await watch.go_on(60)

    assert await watch.go_on(600) == 0


async def test_a_ghost_beside_an_idle_runner_costs_no_more_than_the_runner() -> None:
    watch = await settled(RUNNER, names=("a:latest", "gone:latest"))

    assert await watch.go_on(600) == 20


async def test_a_model_past_its_time_is_asked_about_every_five_seconds() -> None:
    watch = Watch(RUNNER)
    watch.ollama.expires_at = SOON
    await watch.go_on(60)

    assert await watch.go_on(60) == 10  # looks are 2 s apart: each third one


async def test_a_runner_that_is_not_listed_is_asked_about_every_five_seconds() -> None:
    watch = await settled(RUNNER, OTHER)

    assert await watch.go_on(60) == 10


async def test_a_deleted_model_whose_runner_lives_is_asked_about_every_five_seconds() -> None:
    watch = await settled(replace(RUNNER, blob="sha256:nobodys"), names=("gone:latest",))

    assert await watch.go_on(60) == 10


async def test_a_silent_ollama_is_asked_no_more_often() -> None:
    watch = await settled(RUNNER)
    watch.ollama.silent = True

    assert await watch.go_on(600) == 20


async def test_a_silent_ollama_leaves_the_last_answer_with_its_age_and_the_trouble() -> None:
    watch = await settled(RUNNER)
    taken_mono = watch.witness.taken_mono
    watch.ollama.silent = True
    await watch.go_on(60)

    assert [model.name for model in watch.value.loaded] == ["a:latest"]
    assert watch.witness.taken_mono == taken_mono
    assert watch.witness.trouble == "No answer within 2 s."


async def test_another_engine_is_not_believed_to_have_what_the_last_one_had() -> None:
    watch = await settled(RUNNER)
    watch.models.forget()
    watch.ollama.silent = True
    await watch.go_on(2)

    assert watch.witness.value is None


async def test_an_expiry_is_told_in_seconds_from_the_answer() -> None:
    watch = Watch(RUNNER)
    watch.ollama.expires_at = "1970-01-01T00:17:00.931971924Z"  # 1020.931972 s
    await watch.go_on(4)

    assert watch.value.expires_in_s["a:latest"] == pytest.approx(1020.931972 - watch.ollama.asked_mono[-1])


async def test_a_date_that_cannot_be_read_is_never_past() -> None:
    watch = Watch(RUNNER)
    watch.ollama.expires_at = "tomorrow"
    await watch.go_on(4)

    assert watch.value.expires_in_s["a:latest"] == float("inf")


async def test_the_store_is_not_read_at_each_question() -> None:
    watch = await settled(RUNNER)
    await watch.go_on(200)

    assert watch.store.n_asked == 1


async def test_a_model_that_is_not_in_the_store_is_missing() -> None:
    watch = await settled(RUNNER, names=("gone:latest",))

    assert watch.value.missing == {"gone:latest"}


async def test_a_model_that_was_pulled_while_the_store_hangs_is_not_missing() -> None:
    watch = await settled(RUNNER)
    watch.store.answer = StoreUnread("The folder did not answer within 2 s.")
    watch.ollama.names = ("a:latest", "pulled:latest")
    await watch.go_on(60)

    assert [model.name for model in watch.value.loaded] == ["a:latest", "pulled:latest"]
    assert watch.value.missing == frozenset()
    assert watch.value.blobs == {"a:latest": frozenset({"sha256:a"})}


async def test_of_a_store_that_is_not_all_ours_to_see_nothing_is_missing() -> None:
    watch = Watch(RUNNER)
    watch.store.answer = Weights(INSTALLED, is_whole=False)
    watch.ollama.names = ("a:latest", "hidden:latest")
    await watch.go_on(60)

    assert watch.value.missing == frozenset()


async def test_a_store_that_hangs_costs_no_more_questions() -> None:
    watch = Watch(RUNNER)
    watch.store.answer = StoreUnread("The folder did not answer within 2 s.")
    await watch.go_on(60)

    assert await watch.go_on(600) == 20


def _install(store: Path, name: str, manifest: str) -> None:
    folder = store / "manifests" / "registry.ollama.ai" / "library" / name
    folder.mkdir(parents=True)
    (folder / "latest").write_text(manifest)


def _manifest(weights: str) -> str:
    layers = [
        {"mediaType": "application/vnd.ollama.image.model", "digest": weights, "size": 5},
        {"mediaType": "application/vnd.ollama.image.params", "digest": "sha256:" + "c" * 64, "size": 5},
    ]
    config = {"mediaType": "application/json", "digest": "sha256:" + "d" * 64, "size": 5}
    return json.dumps({"schemaVersion": 2, "config": config, "layers": layers})


def test_weights_are_the_model_layers_of_each_manifest(tmp_path: Path) -> None:
    _install(tmp_path, "a", _manifest("sha256:" + "a" * 64))

    assert read_weights(tmp_path) == Weights({"a:latest": frozenset({"sha256:" + "a" * 64})}, is_whole=True)


def test_a_broken_manifest_keeps_the_store_from_being_whole(tmp_path: Path) -> None:
    _install(tmp_path, "a", _manifest("sha256:" + "a" * 64))
    _install(tmp_path, "b", "{")

    found = read_weights(tmp_path)

    assert (found.of_model["b:latest"], found.is_whole) == (frozenset(), False)
