"""A thousand orphans are thrown at PID 1 while the engine dies fifty times: no exit status goes astray."""

from __future__ import annotations

import os
import signal
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.engine.processes import wait_until
from tests.system.ground.namespace import Pulse, zombies_below
from tests.system.ground.namespace import namespaces as namespaces

if TYPE_CHECKING:
    import random
    from pathlib import Path

    from tests.engine.fake import FakeEngine
    from tests.system.ground.namespace import Namespace, NamespaceFactory

N_DEATHS = 50
ORPHANS_PER_DEATH = 20
AT_ONCE = {
    "ARASUL_STABLE_SECONDS": "0",
    "ARASUL_BACKOFF_BASE": "0.001",
    "ARASUL_BACKOFF_MAX": "0.001",
    "ARASUL_START_RETRIES": "1000",
}


@dataclass(frozen=True, slots=True)
class Death:
    """How a generation is to end: by a signal from outside, or by itself with a code."""

    number: signal.Signals | None
    code: int
    is_early: bool

    @property
    def life(self) -> str:
        """What the fake engine is told; it takes SIGTERM for a wish, and exits 0."""
        return "healthy" if self.number else f"crash,code={self.code},after_s=0.3,message="

    @property
    def seen(self) -> tuple[int | None, int | None, str]:
        """Code, signal and reason, as they must be reported."""
        if self.number is None:
            return self.code, None, f"exited with code {self.code}"
        if self.number == signal.SIGTERM:
            return 0, None, "exited with code 0 without being asked to"
        return None, int(self.number), f"killed by signal {int(self.number)} ({self.number.name})"


def test_every_exit_reason_is_right_and_no_zombie_is_left(
    namespaces: NamespaceFactory, fake_engine: FakeEngine, rng: random.Random, tmp_path: Path
) -> None:
    deaths = [_draw(rng) for _ in range(N_DEATHS)]
    home = namespaces("|".join(death.life for death in deaths) + "|healthy", env=AT_ONCE)
    home.wait_ready()
    with Pulse(home.daemon) as pulse:
        for generation, death in enumerate(deaths, start=1):
            with _throw_orphans(home, tmp_path / "orphans"):
                _wait_generation(home, generation)
                _die(home, generation, death, fake_engine)
        _wait_generation(home, N_DEATHS + 1)
        home.wait_ready()
    told = home.events("engine_exited")
    assert [line["generation"] for line in told] == list(range(1, N_DEATHS + 1))
    assert [(line["code"], line["signal"], line["reason"]) for line in told] == [x.seen for x in deaths]
    assert home.daemon.process()["restarts"] == N_DEATHS
    n_orphans = N_DEATHS * ORPHANS_PER_DEATH
    wait_until(lambda: (tmp_path / "orphans").stat().st_size == n_orphans, limit_s=10, what="all orphans")
    wait_until(lambda: zombies_below(home.pid) == [], limit_s=10, what="no zombie")
    assert pulse.failures == []
    assert pulse.worst_s < 2
    print(f"worst of {pulse.n_answers} answers of /livez: {pulse.worst_s * 1000:.1f} ms")
    assert home.stop() == 0
    assert home.daemon.survivors() == {}


def _draw(rng: random.Random) -> Death:
    number = rng.choice([signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGTERM, None])
    is_early = (
        rng.random() < 0.5 and number != signal.SIGTERM
    )  # it has no handler for that before it is ready
    return Death(number, rng.randint(1, 255), is_early)


def _throw_orphans(home: Namespace, tally: Path) -> subprocess.Popen[bytes]:
    """Start a burst of processes that lose their parent at once and die one by one in the next 200 ms."""
    orphan = f"(sleep 0.$n; printf x >>{tally}; exit 3) &"
    numbers = " ".join(f"{n:02d}" for n in range(ORPHANS_PER_DEATH))
    command = ["nsenter", "--target", str(home.pid), "--pid", "--mount", "sh", "-c"]
    return subprocess.Popen(
        [*command, f"for n in {numbers}; do ( {orphan} ) ; done"], stdin=subprocess.DEVNULL
    )


def _die(home: Namespace, generation: int, death: Death, fake: FakeEngine) -> None:
    if death.number is None:
        return  # by itself, in 0.3 s
    if death.is_early:  # but not before it has read what it is to live through
        wait_until(lambda: len(fake.lives()) == generation, limit_s=20, what="the engine's first lines")
    else:
        home.wait_ready()
    os.kill(home.engine_pid, death.number)


def _wait_generation(home: Namespace, generation: int) -> None:
    def is_there() -> bool:
        seen = home.daemon.process()
        return seen["generation"] >= generation and seen["pid"] is not None

    wait_until(is_there, limit_s=20, what=f"generation {generation}")
