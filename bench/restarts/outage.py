"""How long nobody answers on Ollama's port after its death, beside its bare cold start.

Both are asked by the same client: a connect every millisecond, then one request that stays pending until it is
answered. A cold start has no death in it; what the kernel needs to end the old process, before which nobody may start
the next, is a figure of its own. The bare loop waits for that death, reaps and spawns, and knows nothing else.
"""

from __future__ import annotations

import signal
import subprocess
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.figures import Goal, Outcome
from bench.packages import CannotFetch, python_program
from bench.restarts.real_engine import (
    ColdStart,
    Comeback,
    environment_of,
    find_ollama,
    kill_and_see,
    load_and_answer,
    loaded_names,
)
from bench.rounds import alternate
from bench.subject import ready_daemon, wait_for
from tests.engine.daemon import MARKER
from tests.engine.processes import kill_all_with, pick_free_port
from tests.engine.store import install_model
from tests.engine.tiny_gguf import write_gguf

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.figures import Rounds
    from bench.subject import Subject

MODEL: Final = "tiny"
SETTLE_S: Final = 0.5
"""Until the last death is over for everybody: with 0.15 s its aftermath fell into the next start."""
SEEN_LOADED_S: Final = 5.0
"""Until the daemon has surely asked for what is loaded: it looks every two seconds, and at a new runner twice."""
RESTORE_LIMIT_S: Final = 30.0
OUTAGE: Final = Goal("<=", 1.05, "outage")
COLD: Final = "bare cold start"
LOOP: Final = "a bare loop"
SUPERVISORD: Final = """[supervisord]
nodaemon=true
logfile={folder}/supervisord.log
pidfile={folder}/supervisord.pid

[program:ollama]
command={ollama} serve
autorestart=true
startsecs=0
startretries=1000000
stopasgroup=true
killasgroup=true
redirect_stderr=true
stdout_logfile={folder}/ollama.log
"""


@dataclass(frozen=True, slots=True)
class Size:
    """How often: rounds, samples a round; rounds in which a model was loaded, and in which nobody asked for it then."""

    rounds: int
    per_round: int
    loaded_rounds: int
    unasked_rounds: int
    supervisord_rounds: int


FULL: Final = Size(30, 4, loaded_rounds=8, unasked_rounds=8, supervisord_rounds=12)
QUICK: Final = Size(5, 2, loaded_rounds=1, unasked_rounds=0, supervisord_rounds=2)


def measure(*, is_quick: bool) -> Outcome:
    """120 kills (quick: 10) with nothing loaded, then some with a loaded model."""
    outcome, size = Outcome(), QUICK if is_quick else FULL
    ollama = find_ollama()
    if ollama is None:
        outcome.remarks.append("NOT MEASURED: there is no Ollama here (`make ollama`).")
        return outcome
    with tempfile.TemporaryDirectory(prefix="arasul-bench-") as name, ExitStack() as at_end:
        folder = Path(name)
        install_model(folder / "store", MODEL, write_gguf(folder / "tiny.gguf"))
        subject = at_end.enter_context(
            ready_daemon(
                engine_program=ollama,
                models=folder / "store",
                env={"ARASUL_STABLE_SECONDS": "0", "ARASUL_RESTORE": "on"},
            )
        )
        environment = environment_of(_engine_pid(subject))
        ground = Ground(folder, ollama, environment, at_end)
        _unloaded(ground, subject, size, outcome)
        _loaded(ground, subject, size, outcome)
        _beside_supervisord(ground, size, outcome)
        version = subject.daemon.get("/api/info").json()["ollama_version"]
        outcome.remarks.append(f"Ollama {version}; the same environment and client for all.")
    return outcome


@dataclass(frozen=True, slots=True)
class Ground:
    """What everybody starts Ollama with. `at_end` ends what was started."""

    folder: Path
    ollama: Path
    environment: dict[str, str]
    at_end: ExitStack
    seen: dict[str, list[Comeback]] = field(default_factory=dict)

    def cold_start(self) -> ColdStart:
        """A bare one, on a port of its own."""
        return ColdStart(self.ollama, self.environment, pick_free_port(), self.folder / "bare.log")

    def note(self, name: str, comeback: Comeback) -> float:
        """Keep it; its outage in milliseconds."""
        self.seen.setdefault(name, []).append(comeback)
        return comeback.outage_ms


def _unloaded(ground: Ground, subject: Subject, size: Size, outcome: Outcome) -> None:
    def ours() -> float:
        time.sleep(SETTLE_S)
        return ground.note("ours", _kill(subject))

    def cold() -> float:
        with ground.cold_start() as bare:
            time.sleep(SETTLE_S)
            return ground.note(COLD, bare.comeback)

    def loop() -> float:
        with ground.cold_start() as bare:
            time.sleep(SETTLE_S)
            return ground.note(LOOP, bare.kill_and_start_again())

    contenders = {"ours": ours, COLD: cold, LOOP: loop}
    taken = alternate(
        {name: _times(size.per_round, one) for name, one in contenders.items()}, rounds=size.rounds
    )
    outcome.add_rounds(
        "SIGKILL to the next 200", taken["ours"], "ms",
        goal=OUTAGE, beside=(COLD, taken[COLD]), is_of_ratio=True,
    )  # fmt: skip
    outcome.add_rounds("a bare loop: SIGKILL to the next 200", taken[LOOP], "ms", beside=(COLD, taken[COLD]))
    outcome.add_rounds("the same, beside a bare loop", taken["ours"], "ms", beside=(LOOP, taken[LOOP]))
    for what, part in PARTS.items():
        rounds = {name: _parts(ground.seen[name], part, size) for name in ("ours", LOOP)}
        outcome.add_rounds(f"of that: {what}", rounds["ours"], "ms", beside=(LOOP, rounds[LOOP]))


PARTS: Final[dict[str, Callable[[Comeback], float]]] = {
    "until the old one is dead": lambda one: one.until_gone_ms,
    "from then until the next one listens": lambda one: one.until_connect_ms,
    "from then until it answers": lambda one: one.until_answer_ms,
}


def _loaded(ground: Ground, subject: Subject, size: Size, outcome: Outcome) -> None:
    """A model lies in memory when the engine dies, and somebody wants it back at once."""
    port, restored_s = subject.daemon.engine_port, list[float]()

    def ours() -> tuple[float, float]:
        load_and_answer(port, MODEL)
        time.sleep(SEEN_LOADED_S)
        comeback = _kill(subject)
        return comeback.outage_ms, (load_and_answer(port, MODEL) - comeback.began_ns) / 1e6

    def cold() -> tuple[float, float]:
        with ground.cold_start() as bare:
            answered_ns = load_and_answer(bare.port, MODEL)
            return bare.comeback.outage_ms, (answered_ns - bare.comeback.began_ns) / 1e6

    contenders = {"ours": ours, COLD: cold}
    pairs: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    for turn in range(size.loaded_rounds):
        for name in contenders if turn % 2 == 0 else reversed(contenders):
            pairs[name].append(contenders[name]())
    for index, what in enumerate(("the next 200", "an answer of the model that a client asks then")):
        rounds = {name: [[pair[index]] for pair in each] for name, each in pairs.items()}
        outcome.add_rounds(
            f"a model loaded: SIGKILL to {what}", rounds["ours"], "ms", beside=(COLD, rounds[COLD])
        )
    if not size.unasked_rounds:
        return
    for _ in range(size.unasked_rounds):
        load_and_answer(port, MODEL)
        time.sleep(SEEN_LOADED_S)
        began_s = time.monotonic()
        _kill(subject)
        wait_for(lambda: bool(loaded_names(port)), what="the model is loaded again", limit_s=RESTORE_LIMIT_S)
        restored_s.append(time.monotonic() - began_s)
    outcome.add_rounds("a model loaded: SIGKILL to loaded again unasked", [[one] for one in restored_s], "s")
    outcome.remarks.append(
        "Unasked, a model is loaded again a second after the first 200: clients have the first turn."
    )


def _beside_supervisord(ground: Ground, size: Size, outcome: Outcome) -> None:
    try:
        program = python_program("supervisor", "supervisord")
    except CannotFetch as error:
        outcome.remarks.append(f"NOT MEASURED: supervisord: {error}")
        return
    folder, port = ground.folder / "supervisord", pick_free_port()
    folder.mkdir()
    configuration = folder / "supervisord.conf"
    configuration.write_text(SUPERVISORD.format(folder=folder, ollama=ground.ollama), encoding="utf-8")
    environment = {**ground.environment, "OLLAMA_HOST": f"127.0.0.1:{port}", MARKER: str(folder)}
    owner = subprocess.Popen(
        program.command("-c", str(configuration)),
        env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip

    def end() -> None:
        owner.send_signal(signal.SIGTERM)
        owner.wait(20)
        kill_all_with(f"{MARKER}={folder}")

    ground.at_end.callback(end)

    def theirs() -> float:
        wait_for(lambda: _answers(port), what="Ollama answers below supervisord")
        time.sleep(SETTLE_S)
        (engine,) = Path(f"/proc/{owner.pid}/task/{owner.pid}/children").read_text().split()
        return kill_and_see(int(engine), port).outage_ms

    def cold() -> float:
        with ground.cold_start() as bare:
            return bare.comeback.outage_ms

    taken = alternate(
        {"supervisord": _times(1, theirs), COLD: _times(1, cold)}, rounds=size.supervisord_rounds, warm_up=0
    )
    outcome.add_rounds(
        "supervisord: SIGKILL to the next 200", taken["supervisord"], "ms", beside=(COLD, taken[COLD])
    )
    outcome.remarks.append(
        f"supervisord {program.version}: autorestart=true, startsecs=0, startretries=1000000, "
        "stopasgroup=true, killasgroup=true, its log a file."
    )


def _kill(subject: Subject) -> Comeback:
    """Kill the engine of a daemon that runs, and see it come back and be taken for running."""
    subject.daemon.wait_state("running")
    return kill_and_see(_engine_pid(subject), subject.daemon.engine_port)


def _engine_pid(subject: Subject) -> int:
    pid: int = subject.daemon.process()["pid"]
    return pid


def _answers(port: int) -> bool:
    try:
        loaded_names(port)
    except OSError:
        return False
    return True


def _times(n: int, one: Callable[[], float]) -> Callable[[], Sequence[float]]:
    return lambda: [one() for _ in range(n)]


def _parts(seen: Sequence[Comeback], part: Callable[[Comeback], float], size: Size) -> Rounds:
    """The same rounds, without the warm-up."""
    values = [part(one) for one in seen[size.per_round :]]
    return [values[start : start + size.per_round] for start in range(0, len(values), size.per_round)]
