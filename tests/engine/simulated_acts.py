"""What the models of a simulated box do while all is well, at least as slowly as the facts tell.

An act is a story: it is told step by step, is sent the seconds of each step, and ends when it is over. What a step
leaves over is spent by what follows, so that work may be finer than the steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from tests.engine.simulated_runner import TICKS_PER_S, blob_of

if TYPE_CHECKING:
    from collections.abc import Generator

    from tests.engine.simulated_box import Box
    from tests.engine.simulated_runner import SimulatedRunner

READ_BYTES_PER_S: Final = 2_000_000
UNREAD_BYTES: Final = 60_000
WRITTEN_AFTER_S: Final = 45.0
"""A llama-server has written all that nobody reads, and hangs up; Ollama keeps the model (measured on 0.34.4)."""


class RunnerGone(Exception):
    """The runner ended in the middle of what it did: the client sees an error."""


@dataclass(slots=True)
class Scene:
    """Where an act plays: one model of the box. `spare_s`: what is left of this step."""

    box: Box
    model: str
    hardware: Hardware
    runner: SimulatedRunner | None = None
    spare_s: float = 0.0

    def alive(self) -> SimulatedRunner:
        """Its runner.

        :raises RunnerGone: it has none any more
        """
        if self.runner is None or self.runner.is_dead:
            raise RunnerGone
        return self.runner

    def waiting(self, seconds: float) -> Generator[None, float, None]:
        """Time passes, whatever the box does."""
        while self.spare_s < seconds:
            seconds -= self.spare_s
            self.spare_s = yield
        self.spare_s -= seconds

    def working(self, seconds: float, *, cores: float | None = None) -> Generator[None, float, None]:
        """So much work gets done, in more time where the box is starved or the runner held."""
        while True:
            runner = self.alive()
            pace = self.box.pace * runner.pace
            done_s = min(seconds, self.spare_s * pace)
            self.hardware.work(self.box, runner, done_s, cores)
            seconds -= done_s
            self.spare_s -= done_s / pace if done_s else self.spare_s
            if seconds <= 1e-6:
                return
            self.spare_s = yield


@dataclass(frozen=True, slots=True)
class Hardware:
    """What a model computes on: `cpu`, or `gpu`, beside which one thread spins, or sleeps (`gpu_quiet`)."""

    way: str = "cpu"
    cores: float = 2.0

    def work(self, box: Box, runner: SimulatedRunner, done_s: float, cores: float | None) -> None:
        """What so many seconds of work leave in /proc, and on the GPU."""
        runner.is_on_gpu = self.way != "cpu"
        if self.way == "cpu":
            runner.process.cpu_ticks += (cores or self.cores) * TICKS_PER_S * done_s
            return
        box.is_gpu_busy = box.is_gpu_busy or done_s > 0
        runner.process.cpu_ticks += TICKS_PER_S * done_s if self.way == "gpu" else 0.04 * done_s


class Act(Protocol):
    """Something that a loaded model does, or that is done with it."""

    def play(self, scene: Scene) -> Generator[None, float, None]:
        """Tell it step by step."""
        ...


@dataclass(frozen=True, slots=True)
class Load:
    """A load from a disk that reads `reads` times for `read_s`, and rests in between.

    `is_silent`: while the disk rests, its HTTP waits for the disk too.
    """

    reads: int = 3
    read_s: float = 1.0
    rest_s: float = 0.0
    is_silent: bool = False

    def play(self, scene: Scene) -> Generator[None, float, None]:
        """Reads, rests, and is ready."""
        for _ in range(self.reads):
            yield from scene.working(self.read_s, cores=0.1)
            runner = scene.alive()
            runner.process.moved_bytes += int(READ_BYTES_PER_S * self.read_s)
            if self.rest_s:
                runner.process.state, runner.answers = "D", not self.is_silent
                yield from scene.waiting(self.rest_s)
                scene.alive()
                runner.process.state, runner.answers = "S", True


@dataclass(frozen=True, slots=True)
class Answer:
    """An image if there is one, a prompt in batches of 512 tokens, then tokens one by one."""

    batches: int = 4
    batch_s: float = 1.0
    tokens: int = 20
    token_s: float = 0.2
    keep_alive_s: float = 300.0
    encode_s: float = 0.0
    encode_cores: float = 4.0

    def play(self, scene: Scene) -> Generator[None, float, None]:
        """Encodes, reads, writes."""
        runner, box = scene.alive(), scene.box
        peer, task = box.open_request(runner), box.number()
        runner.is_busy, runner.progress = True, (task, 0, 0)
        try:
            yield from scene.working(self.encode_s, cores=self.encode_cores)
            for batch in range(self.batches):
                yield from scene.working(self.batch_s)
                runner.progress = (task, 512 * (batch + 1), 0)
            for token in range(self.tokens):
                yield from scene.working(self.token_s)
                runner.progress = (task, 512 * self.batches, token + 1)
                runner.process.moved_bytes += 0 if box.is_llama_server else 150
        finally:
            runner.is_busy = False
            box.close_request(runner, peer)
            box.renew(runner, self.keep_alive_s)


@dataclass(frozen=True, slots=True)
class Abandoned:
    """The same, and its client goes away before the end."""

    act: Act
    after_s: float = 100.0

    def play(self, scene: Scene) -> Generator[None, float, None]:
        """Plays until then."""
        story, left_mono = self.act.play(scene), scene.box.now_mono + self.after_s
        try:
            next(story)
            while scene.box.now_mono < left_mono:
                story.send((yield))
        except StopIteration:
            return
        story.close()


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Many short requests with pauses; on ≥ 0.30 the slots of such a model count nothing."""

    requests: int = 5
    each_s: float = 0.2
    pause_s: float = 8.0
    keep_alive_s: float = 300.0

    def play(self, scene: Scene) -> Generator[None, float, None]:
        """One request after the other."""
        for _ in range(self.requests):
            runner = scene.alive()
            peer = scene.box.open_request(runner)
            runner.is_busy, runner.progress = True, (peer, 0, 0)
            yield from scene.working(self.each_s)
            runner.is_busy = False
            runner.process.cpu_ticks += 3
            scene.box.close_request(runner, peer)
            scene.box.renew(runner, self.keep_alive_s)
            yield from Rest(self.pause_s).play(scene)
            scene.alive().is_in_use = True


@dataclass(frozen=True, slots=True)
class UnreadAnswer:
    """A client that is suspended, or does not read: ≥ 0.30 has its slots finish, ≤ 0.29 waits with the next token."""

    for_s: float = 3600.0
    keep_alive_s: float = 300.0

    def play(self, scene: Scene) -> Generator[None, float, None]:
        """Answers for a while, stands for long, and ends."""
        runner, box = scene.alive(), scene.box
        peer = box.open_request(runner)
        runner.is_busy, runner.progress = True, (peer, 512, 0)
        yield from scene.working(5.0)
        runner.progress, runner.unread_bytes = (peer, 512, 30), UNREAD_BYTES
        runner.is_busy = not box.is_llama_server
        box.client_unread_bytes += UNREAD_BYTES
        try:
            yield from scene.waiting(min(WRITTEN_AFTER_S, self.for_s))
            if box.is_llama_server:
                scene.alive().unread_bytes = 0
                scene.alive().connections.discard(peer)
            yield from scene.waiting(self.for_s)
        finally:
            box.client_unread_bytes -= UNREAD_BYTES
        runner = scene.alive()
        runner.unread_bytes, runner.is_busy = 0, False
        box.close_request(runner, peer)
        box.renew(runner, self.keep_alive_s)


@dataclass(frozen=True, slots=True)
class Rest:
    """Nobody asks it anything."""

    for_s: float = 60.0

    def play(self, scene: Scene) -> Generator[None, float, None]:
        """Time passes; its time may run out."""
        scene.alive().is_in_use = False
        yield from scene.waiting(self.for_s)


@dataclass(frozen=True, slots=True)
class Unload:
    """An operator unloads it."""

    def play(self, scene: Scene) -> Generator[None, float, None]:
        """Unlisted at once, gone soon."""
        scene.box.unload(scene.alive())
        yield from scene.waiting(scene.box.dies_after_s + 3.0)


@dataclass(frozen=True, slots=True)
class PullNewer:
    """A newer version of the loaded model is pulled: its runner stays, under weights that no name has any more."""

    rest_s: float = 200.0

    def play(self, scene: Scene) -> Generator[None, float, None]:
        """The store changes, and the runner rests on."""
        version = scene.box.now_mono
        scene.box.store[scene.model] = blob_of(scene.model, int(version))
        yield from Rest(self.rest_s).play(scene)


@dataclass(frozen=True, slots=True)
class PullAndDelete:
    """Another model comes and goes, and is never loaded."""

    def play(self, scene: Scene) -> Generator[None, float, None]:
        """Only the store sees it."""
        scene.box.store["another:latest"] = blob_of("another:latest")
        yield from Rest(40.0).play(scene)
        scene.box.store.pop("another:latest", None)
