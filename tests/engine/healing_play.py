"""Plays a row of the fault table and says what was seen: when it was found, what was done, who survived."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest

from tests.engine.healing_ground import start_fake, start_real
from tests.engine.healing_rows import REAL
from tests.engine.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.engine.daemon import DaemonFactory
    from tests.engine.fake import FakeEngine
    from tests.engine.healing_clients import Client
    from tests.engine.healing_ground import HealingGround
    from tests.engine.healing_rows import Row
    from tests.engine.store import ModelFiles

VICTIM_LIMIT_S = 10.0
AFTERWARDS_LIMIT_S = 20.0
# two models share two cores, and one of them may load
OTHER_GAP_S = 2.0


@dataclass(frozen=True, slots=True)
class Seen:
    """What a scenario showed. Seconds count from the fault.

    `other_gap_s`: the longest time without a token of the other model, from before the fault to its end; None if there
    was none.
    `answered_s`: from the closed incident to a whole answer of a model. `waiting`: what became of a second client that
    had asked for the model that was hit, `waiting_s` after the cure; "none" where the row has none.
    """

    incident: Mapping[str, Any]  # Any: JSON
    other_kinds: frozenset[str]
    found_s: float
    closed_s: float
    is_engine_kept: bool
    victim: str
    waiting: str
    waiting_s: float | None
    other_gap_s: float | None
    other_errors: tuple[str, ...]
    answered_s: float | None


def prepare(
    row: Row,
    daemons: DaemonFactory,
    *,
    engine: Path,
    fake: FakeEngine,
    folder: Path,
    model_files: ModelFiles,
) -> HealingGround:
    """The ground that the row asks for; `folder` is empty."""
    if row.engine == REAL:
        return start_real(daemons, engine, folder, model_files, env=row.env, is_commanded=row.is_commanded)
    family = row.engine.rpartition(" ")[2]
    well = f"runners,family={family}{row.runners};tokens,s=0.02"
    modes = f"{well};{row.modes}" + (f"|{well}" if row.is_well_anew else "")
    return start_fake(daemons, fake, folder, model_files, modes, env=row.env)


@pytest.fixture
def ground(
    row: Row,
    daemon: DaemonFactory,
    fake_engine: FakeEngine,
    engine_binary: Path,
    tmp_path: Path,
    model_files: ModelFiles,
) -> HealingGround:
    """What `prepare` makes of the row that the test is called with."""
    return prepare(
        row, daemon, engine=engine_binary, fake=fake_engine, folder=tmp_path, model_files=model_files
    )


def play(row: Row, ground: HealingGround) -> Seen:
    """Bring the fault about and wait until its incident is over; fails where that takes longer than its bound."""
    with contextlib.ExitStack() as at_end:
        other = at_end.enter_context(ground.generating("other")) if row.other_answers else None
        engine_pid, started = ground.engine_pid, time.monotonic()
        with row.inject(ground) as fault:
            begun, begun_at = time.monotonic(), time.time()
            second = at_end.enter_context(ground.waiting("tiny")) if row.waiting != "none" else None
            incident = ground.wait_closed(row.kind.value, limit_s=row.bound_s)
            closed = time.monotonic()
            victim, waiting = _fate(fault.victim, closed), _fate(second, closed)
        answered_s = _answered_s(ground, closed) if row.answers_after else None
        return Seen(
            incident,
            frozenset(one["kind"] for one in ground.incidents()) - {row.kind.value},
            max(0.0, _epoch(incident["at"]) - begun_at),  # it may be found while it is being brought about
            closed - begun,
            ground.engine_pid == engine_pid,
            victim,
            waiting,
            _ended_mono(second) - begun - (_epoch(incident["steps"][-1]["at"]) - begun_at)
            if second
            else None,
            other.longest_gap_s(started, closed) if other else None,
            tuple(error for _, error in other.errors) if other else (),
            answered_s,
        )


def _answered_s(ground: HealingGround, closed_mono: float) -> float:
    """From the closed incident until a model has given a whole answer."""
    with ground.waiting("other") as client:
        wait_until(client.is_over.is_set, limit_s=AFTERWARDS_LIMIT_S, what="an answer afterwards")
        assert client.answers == 1, client.errors
        return time.monotonic() - closed_mono


def problems(row: Row, seen: Seen) -> list[str]:
    """What is not as the row says; empty when all is."""
    found = []
    if seen.incident["action"] != row.action.value:
        found.append(f"{seen.incident['action']} was done, not {row.action.value}")
    if seen.incident["result"] not in row.results:
        found.append(f"the result is {seen.incident['result']}, not {' or '.join(row.results)}")
    if not seen.incident["evidence"]:
        found.append("no evidence is named")
    if seen.other_kinds - row.also:
        found.append(f"also called sick: {', '.join(sorted(seen.other_kinds - row.also))}")
    if seen.victim != row.victim:
        found.append(f"the client that was hit: {seen.victim}, not {row.victim}")
    if seen.waiting != row.waiting:
        found.append(f"the client that waited: {seen.waiting}, not {row.waiting}")
    if seen.is_engine_kept != row.keeps_engine:
        found.append("the engine was restarted" if row.keeps_engine else "the engine was not restarted")
    if row.keeps_engine and seen.other_errors:
        found.append(f"the other model failed: {seen.other_errors[0]}")
    if row.keeps_engine and not row.other_pauses and (seen.other_gap_s or 0) > OTHER_GAP_S:
        found.append(f"the other model said nothing for {seen.other_gap_s:.1f} s")
    return found


def _epoch(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def _ended_mono(client: Client) -> float:
    """When the last thing came that the client saw."""
    return max([*client.tokens_mono, *(at for at, _ in client.errors)], default=time.monotonic())


def _fate(victim: Client | None, closed_mono: float) -> str:
    """`goes on` once a token or an end came after the cure, `is told` once an error did; `waits` when neither did."""
    if victim is None:
        return "none"
    end = time.monotonic() + VICTIM_LIMIT_S
    while time.monotonic() < end:
        if victim.errors:
            return "is told"
        if victim.answers or (victim.tokens_mono and victim.tokens_mono[-1] > closed_mono):
            return "goes on"
        time.sleep(0.02)
    return "waits"
