"""What an idle owner costs: memory, processor time and wake-ups, of all over one and the same minute.

The processes of the owner are counted, with our guardian, without the engine.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from bench.figures import WIDE_AT_THE_END, Goal, Outcome
from bench.restarts.bare import BareServer
from bench.restarts.contenders import Ours, children_of, running
from bench.restarts.peers import S6, BusyCircus, Circus, Runit, Supervisord
from bench.restarts.real_engine import find_ollama, load_and_answer
from bench.restarts.usage import usage_of
from bench.rounds import tell_progress
from bench.subject import ready_daemon
from tests.engine.processes import pids_with
from tests.engine.store import install_model
from tests.engine.tiny_gguf import NORMAL, OTHER, write_gguf

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from bench.restarts.contenders import Maker

    Pids = Mapping[str, Sequence[int]]
    """By name, the processes that are counted together."""

FULL: Final[tuple[Maker, ...]] = (Ours, BareServer, Supervisord, Circus, BusyCircus, Runit, S6)
QUICK: Final[tuple[Maker, ...]] = (Ours, BareServer)
WINDOWS: Final = 6
"""What happens every five seconds falls into some of them in a short run: they may differ."""
FULL_S: Final = 60.0
QUICK_S: Final = 10.0
SETTLED_S: Final = 10.0
QUICK_SETTLED_S: Final = 2.0
MEMORY: Final = Goal("<=", 45, "memory")
IDLE: Final = Goal("<=", 0.3, "idle")
WITH_OLLAMA: Final = f"{Ours.name} over Ollama, two models loaded"


class Window(NamedTuple):
    """What was used in a part of the time; memory as it was at its end."""

    rss_mib: float
    pss_mib: float
    busy_percent: float
    wakeups_per_s: float


def measure(*, is_quick: bool) -> Outcome:
    """A minute of all; quick: ten seconds of ours and a bare aiohttp server."""
    outcome = Outcome()
    span_s = QUICK_S if is_quick else FULL_S
    with ExitStack() as at_end:
        contenders = at_end.enter_context(running(QUICK if is_quick else FULL, outcome))
        if not contenders:
            return outcome
        pids: dict[str, Sequence[int]] = {one.name: one.own_pids() for one in contenders}
        if not is_quick:
            pids |= at_end.enter_context(_over_ollama(outcome))
        time.sleep(QUICK_SETTLED_S if is_quick else SETTLED_S)
        seen = _watch(pids, span_s / WINDOWS)
    outcome.remarks.append(
        f"The same {span_s:g} s of all, in {WINDOWS} parts. Memory by smaps_rollup, processor time by schedstat; a"
        " wake-up is each time that a thread has left its core, of its own will or not."
    )
    _report(outcome, seen)
    return outcome


@contextmanager
def _over_ollama(outcome: Outcome) -> Iterator[Pids]:
    """Ours over the real Ollama, with two tiny models that rest in memory."""
    ollama = find_ollama()
    if ollama is None:
        outcome.remarks.append(f"NOT MEASURED: {WITH_OLLAMA}: there is no Ollama here, see `make ollama`.")
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="arasul-bench-") as name:
        folder = Path(name)
        models = {"tiny": NORMAL, "other": OTHER}
        for model, shape in models.items():
            install_model(folder / "store", model, write_gguf(folder / f"{model}.gguf", shape))
        env = {"OLLAMA_CONTEXT_LENGTH": "2048", "OLLAMA_KEEP_ALIVE": "-1"}
        with ready_daemon(engine_program=ollama, models=folder / "store", env=env) as subject:
            daemon = subject.daemon
            for model in models:
                load_and_answer(daemon.engine_port, model)
            carriers = pids_with(daemon.marker)
            guardian = [pid for pid in children_of(daemon.pid) if pid not in carriers]
            yield {WITH_OLLAMA: [daemon.pid, *guardian]}


def _watch(pids: Pids, window_s: float) -> dict[str, list[Window]]:
    seen: dict[str, list[Window]] = {name: [] for name in pids}
    before = {name: (time.monotonic_ns(), usage_of(them)) for name, them in pids.items()}
    for number in range(WINDOWS):
        time.sleep(window_s)
        for name, them in pids.items():
            since_ns, old = before[name]
            now_ns, new = time.monotonic_ns(), usage_of(them)
            before[name] = now_ns, new
            took_ns = now_ns - since_ns
            seen[name].append(
                Window(
                    new.rss_mib,
                    new.pss_mib,
                    100 * (new.busy_ns - old.busy_ns) / took_ns,
                    1e9 * (new.switches - old.switches) / took_ns,
                )
            )
        tell_progress(f"part {number + 1} of {WINDOWS}")
    return seen


def _report(outcome: Outcome, seen: Mapping[str, Sequence[Window]]) -> None:
    """Memory of ours beside a bare server; then each figure of everybody."""
    for name, windows in seen.items():
        is_ours = name in (Ours.name, WITH_OLLAMA)
        bare = seen.get(BareServer.name) if is_ours else None
        rss, pss, busy, wakeups = ([[value] for value in column] for column in zip(*windows, strict=True))
        for what, rounds, goal in (("RSS", rss, MEMORY), ("PSS", pss, None)):
            index = 0 if what == "RSS" else 1
            beside = (BareServer.name, [[window[index]] for window in bare]) if bare else None
            outcome.add_rounds(
                f"{name}, {what}", rounds, "MiB", goal=goal if is_ours else None, beside=beside
            )
        outcome.add_rounds(
            f"{name}, idle",
            busy,
            "% of a core",
            of=statistics.fmean,
            goal=IDLE if is_ours else None,
            wide=WIDE_AT_THE_END,
        )
        outcome.add_rounds(f"{name}, wake-ups", wakeups, "1/s", of=statistics.fmean, wide=WIDE_AT_THE_END)
