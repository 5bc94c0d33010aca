"""Random faults on a daemon over the real engine, under load, for as long as is wished: `make soak`.

    python -m tests.engine.healing_soak [--minutes 20] [--seed N]

Three tiny models are asked again and again. After each fault every model must give a whole answer, asked for after the
fault, within the bound of that fault (healing_faults.py). At the end nothing may be left, nothing may have grown, no
incident may be open, and none may have ended otherwise than well. Exits 1 on a breach.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.engine.daemon import DaemonFactory
from tests.engine.fake import make_fake_engine
from tests.engine.healing_clients import Client, asking
from tests.engine.healing_faults import faults
from tests.engine.healing_ground import SHORT, find_engine, start_real
from tests.engine.healing_vitals import OwnLog, Vitals
from tests.engine.store import ModelFiles

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.engine.healing_faults import SoakFault
    from tests.engine.healing_ground import HealingGround

STUCK_S, SILENT_S = 3.0, 3.0
ENVIRONMENT: Final = {
    **SHORT,
    "ARASUL_STUCK_SECONDS": f"{STUCK_S:g}",
    "ARASUL_SILENT_SECONDS": f"{SILENT_S:g}",
    "ARASUL_LOAD_STUCK_SECONDS": "3",
    "ARASUL_STABLE_SECONDS": "2",
}
PAUSE_S: Final = (6.0, 16.0)  # between two faults
ASK_EVERY_S: Final = 0.3
N_TOKENS: Final = 100
NAMES: Final = ("tiny", "other", "small")
SAMPLE_EVERY_S: Final = 10.0
SETTLE_S: Final = 15.0
FINE: Final = ("cured", "recovered", "noted")
PACE: Final = {
    "continue": (4, 620.0),
    "engine continue": (4, 620.0),
    "runner": (8, 1860.0),
    "engine": (2, 1860.0),
}
"""How often a soak may ask for a cure of the daemon's, within how long: below each of its budgets."""


@dataclass(slots=True)
class Asker(Client):
    """A client that goes on for hours: it keeps figures, and no list of tokens."""

    answered_asked_mono: float = 0.0  # when the last request that was answered whole had been asked
    n_errors: int = 0

    def ask_for_ever(self) -> None:
        """Ask, and pause, until it leaves."""
        while not self._leaves.is_set():
            n_answers = self.answers
            self.ask_once()
            if self.answers > n_answers:
                self.answered_asked_mono = self.asked_mono
            self.n_errors += len(self.errors)
            self.errors.clear()
            self.tokens_mono.clear()
            self._leaves.wait(ASK_EVERY_S)


@dataclass(slots=True)
class Soak:
    """One soak, and what went wrong in it: `wrongs` are sentences."""

    ground: HealingGround
    rng: random.Random
    askers: Sequence[Asker]
    vitals: Vitals
    wrongs: list[str] = field(default_factory=list)
    took_s: dict[str, list[float]] = field(default_factory=dict)
    spent: list[tuple[str, float]] = field(default_factory=list)

    def go_on(self, *, minutes: float) -> None:
        """A fault, its end, a pause; until the time is over."""
        end = time.monotonic() + minutes * 60
        drawn = [fault for fault in faults(stuck_s=STUCK_S, silent_s=SILENT_S) for _ in range(fault.weight)]
        self._wait_for_answers(time.monotonic(), 60)
        while time.monotonic() < end:
            self.rest(self.rng.uniform(*PAUSE_S))
            model = self.rng.choice([asker.model for asker in self.askers])
            fault = self.rng.choice(drawn)
            if self._is_affordable(fault, model):
                self._bring_about(fault, model)

    def _bring_about(self, fault: SoakFault, model: str) -> None:
        begun, known = time.monotonic(), len(self.ground.incidents())
        self.spent += [(f"{cost} {self._of(cost, model)}", begun) for cost in fault.costs]
        try:
            with fault.bring_about(self.ground, model):
                took_s = self._wait_for_answers(time.monotonic(), fault.bound_s)
        except (pytest.fail.Exception, OSError, AssertionError, TimeoutError) as error:
            self._say(
                f"{fault.name} of {model} could not be brought about: {str(error)[:200]}", is_wrong=True
            )
            return
        if took_s is None:
            late_s = self._wait_for_answers(begun, 4 * fault.bound_s)
            said = f"answers after {late_s:.1f} s" if late_s is not None else "never answers"
            self._say(f"{fault.name}, {model}: not within {fault.bound_s:g} s; it {said}", is_wrong=True)
            for one in self.ground.incidents()[known:]:
                steps = self.ground.incident(one["id"])["steps"]
                print(f"    {one['kind']} {one['result']}: {one['evidence']} {one['detail']}")
                print(
                    *(f"        {step['at']} {step['action']}: {step['detail']}" for step in steps), sep="\n"
                )
            return
        self.took_s.setdefault(fault.name, []).append(took_s)
        self._say(f"{fault.name}, {model}: all answer after {took_s:.1f} s (bound {fault.bound_s:g} s)")

    def _wait_for_answers(self, since_mono: float, limit_s: float) -> float | None:
        """Seconds until each model has given a whole answer that was asked for after that; None: not in time."""
        end = time.monotonic() + limit_s
        while any(asker.answered_asked_mono <= since_mono for asker in self.askers):
            if time.monotonic() > end:
                return None
            time.sleep(0.02)
        return time.monotonic() - since_mono

    def rest(self, for_s: float) -> None:
        end = time.monotonic() + for_s
        while time.monotonic() < end:
            if not self.vitals.samples["fds"] or time.monotonic() - self.vitals.last_mono > SAMPLE_EVERY_S:
                self.vitals.sample()
            time.sleep(0.2)

    def _is_affordable(self, fault: SoakFault, model: str) -> bool:
        for cost in fault.costs:
            times, within_s = PACE[cost]
            key = f"{cost} {self._of(cost, model)}"
            if sum(what == key and time.monotonic() - at < within_s for what, at in self.spent) >= times:
                return False
        return True

    def _of(self, cost: str, model: str) -> str:
        return "" if cost.startswith("engine") else model

    def _say(self, text: str, *, is_wrong: bool = False) -> None:
        if is_wrong:
            self.wrongs.append(text)
        print(f"{time.strftime('%H:%M:%S')} {'WRONG: ' if is_wrong else ''}{text}", flush=True)


def main() -> int:
    """Soak, and say what came of it."""
    parser = argparse.ArgumentParser(prog="make soak")
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    args = parser.parse_args()
    print(f"--minutes {args.minutes:g} --seed {args.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="healing-soak-") as name:
        folder = Path(name)
        (folder / "gguf").mkdir()
        daemons = DaemonFactory(folder, make_fake_engine(folder / "fake"))
        try:
            soak = _soak(daemons, folder, minutes=args.minutes, seed=args.seed)
            _judge(soak)
        finally:
            with contextlib.redirect_stdout(None):
                daemons.end()
    print(f"{len(soak.wrongs)} wrong." if soak.wrongs else "Nothing went wrong.")
    return 1 if soak.wrongs else 0


def _soak(daemons: DaemonFactory, folder: Path, *, minutes: float, seed: int) -> Soak:
    ground = start_real(
        daemons, find_engine(), folder, ModelFiles(folder / "gguf"), models=NAMES, env=ENVIRONMENT
    )
    askers = [Asker(ground.daemon.engine_port, name, N_TOKENS) for name in NAMES]
    soak = Soak(ground, random.Random(seed), askers, Vitals(ground.daemon, OwnLog(ground.daemon)))
    with _all_asking(askers):
        soak.go_on(minutes=minutes)
        soak.rest(SETTLE_S)
    return soak


@contextlib.contextmanager
def _all_asking(askers: Sequence[Asker]) -> Iterator[None]:
    with contextlib.ExitStack() as at_end:
        for asker in askers:
            at_end.enter_context(asking(asker, asker.ask_for_ever))
        yield


def _judge(soak: Soak) -> None:
    """Look at all that is left, and print the summary."""
    ground, log = soak.ground, soak.vitals.log.read_on()
    incidents = ground.incidents()
    soak.wrongs += [
        f"incident {one['id']} ({one['kind']}) is {one['result']}: {one['detail']}"
        for one in incidents
        if one["result"] not in FINE
    ]
    soak.wrongs += soak.vitals.problems()
    failed = [line for line in log.events if line.get("traceback") or line.get("event") == "healing_failed"]
    soak.wrongs += [f"the daemon's log: {str(line)[:600]}" for line in failed]
    soak.wrongs += [f"the daemon said: {line[:300]}" for line in log.other]
    code = ground.daemon.stop()
    if code != 0:
        soak.wrongs.append(f"the daemon ended with {code}")
    survivors = ground.daemon.survivors()
    if survivors:
        soak.wrongs.append(f"left alive: {survivors}")
    _print_summary(soak, incidents)


def _print_summary(soak: Soak, incidents: Sequence[dict[str, object]]) -> None:
    for name, took_s in sorted(soak.took_s.items()):
        print(
            f"{name}: {len(took_s)} times, all models answered after {min(took_s):.1f} to {max(took_s):.1f} s"
        )
    kinds = Counter(f"{one['kind']} {one['action']} {one['result']}" for one in incidents)
    print("incidents: " + ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items())))
    for word, (early, late) in soak.vitals.growths().items():
        print(f"{word}: {early:.0f} in the second quarter, {late:.0f} in the last")
    answers, errors = sum(one.answers for one in soak.askers), sum(one.n_errors for one in soak.askers)
    print(f"{answers} answers, {errors} requests that failed or were refused meanwhile")
    for wrong in soak.wrongs:
        print(f"WRONG: {wrong}")


if __name__ == "__main__":
    raise SystemExit(main())
