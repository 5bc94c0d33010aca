"""Guards DESIGN §9: no healthy life, however slow, is ever touched."""

from __future__ import annotations

import pytest
from hypothesis import Phase, given, settings

from tests.engine.simulated_acts import (
    Abandoned,
    Answer,
    Embeddings,
    Hardware,
    Load,
    PullNewer,
    Rest,
    UnreadAnswer,
)
from tests.engine.simulated_attendant import Attendant
from tests.engine.simulated_life import Household, live_through
from tests.engine.simulated_stories import Plan, plans
from tests.engine.simulated_weather import (
    BeatsMissed,
    Calm,
    ClocksJump,
    ClockSlewed,
    Debugger,
    LooksLate,
    QueueFull,
    Weather,
    WitnessSilent,
)

TWO_HOURS_S = 7200.0
CPU, QUIET = Hardware("cpu"), Hardware("gpu_quiet")
OLD = {"is_llama_server": False, "has_slots": False}
SEEN, UNSEEN = {"gpu_load_known": True}, {"gpu_load_known": False}
SLEPT, SLEWED = ClocksJump(wall_s=30_000.0), ClockSlewed(3500.0, 0.08)


PHASES = (
    Phase.explicit,
    Phase.generate,
)  # to shrink two hours takes minutes; the first event names its cause


@pytest.mark.timeout(60)  # 0.4 s an example on a quiet box, and several times that on a busy one
@settings(max_examples=8, phases=PHASES)
@given(plan=plans())
def test_two_hours_of_mixed_healthy_life_open_no_case(plan: Plan) -> None:
    _open_no_case(plan)


@pytest.mark.long
@settings(max_examples=2000, phases=PHASES)
@given(plan=plans())
def test_two_hours_of_any_healthy_life_open_no_case(plan: Plan) -> None:
    _open_no_case(plan)


@pytest.mark.parametrize(
    ("traits", "household", "weather"),
    [
        ({}, Household("a:latest", CPU, Load(3, rest_s=40.0, is_silent=True), (Rest(300.0),)), ()),
        (
            {},
            Household("a:latest", CPU, Load(), (Abandoned(Answer(0, encode_s=300.0), 200.0), Rest(1e9))),
            (),
        ),
        ({}, Household("a:latest", CPU, Load(), (PullNewer(1e9),)), ()),
        (
            {},
            Household("a:latest", CPU, Load(), (Answer(keep_alive_s=3600.0), Rest(3000.0))),
            (Calm(60.0), SLEPT),
        ),
        ({}, Household("a:latest", CPU, Load(), (Answer(keep_alive_s=3600.0), Rest(3900.0))), (SLEWED,)),
        ({}, Household("a:latest", CPU, Load(), (Rest(1e9),)), (Debugger(0, 600.0, is_of_engine=True),)),
        (
            {},
            Household("a:latest", CPU, Load(), (Rest(1e9),)),
            (Calm(61.0), LooksLate(5.0), BeatsMissed(12, "T")),
        ),
        ({}, Household("a:latest", CPU, Load(), (Embeddings(900, pause_s=7.8),)), (QueueFull(3600.0),)),
        (SEEN, Household("a:latest", QUIET, Load(), (Embeddings(90, pause_s=38.0),)), (QueueFull(3600.0),)),
        (SEEN, Household("a:latest", QUIET, Load(), (Answer(1, encode_s=540.0, tokens=0),)), ()),
        ({}, Household("a:latest", CPU, Load(), (UnreadAnswer(3600.0),)), ()),
        ({}, Household("a:latest", CPU, Load(), (UnreadAnswer(3600.0, 1e10),)), (QueueFull(3600.0),)),
        (
            {},
            Household("a:latest", CPU, Load(3, rest_s=37.0, is_silent=True), (Rest(1e9),)),
            (Calm(100.0), WitnessSilent("runners", 30.0)),
        ),
        (OLD, Household("a:latest", CPU, Load(), (Embeddings(9, pause_s=85.0, keep_alive_s=1e10),)), ()),
        (OLD, Household("a:latest", CPU, Load(), (UnreadAnswer(300.0, 1e10), Rest(200.0))), ()),
        (OLD | SEEN, Household("a:latest", QUIET, Load(), (Answer(4, 20, 20, 45.0, 1e10), Rest(200.0))), ()),
        (
            OLD | UNSEEN,
            Household("a:latest", QUIET, Load(), (Answer(4, 20, 20, 45.0, 1e10), Rest(200.0))),
            (),
        ),
        (
            {"has_slots": False} | SEEN,
            Household("a:latest", QUIET, Load(), (PullNewer(70.0), Answer(20, 30.0))),
            (),
        ),
    ],
    ids=[
        "a load whose disk rests is silent",
        "a client leaves while an image is read",
        "a newer version of a loaded model is pulled",
        "a laptop sleeps while a model rests",
        "a clock is slewed while a model rests",
        "a debugger lets the engine go",
        "an engine stops for 12 s between late looks",
        "short requests beside a full queue",
        "short requests on a GPU, seldom, beside a full queue",
        "an image is read on a GPU beside a thread that sleeps",
        "a client that does not read keeps its model past its time",
        "a client that does not read holds up a full queue",
        "a silent load ends while the runners cannot be looked at",
        "a connection is used again and again",
        "an answer that was not read has just been read",
        "a connection is kept after slow tokens of a GPU",
        "slow tokens of a GPU that tells no load",
        "a long prompt of a model whose name means others now",
    ],
)
def test_a_life_that_was_once_taken_for_sick_opens_no_case(
    traits: dict[str, bool], household: Household, weather: tuple[Weather, ...]
) -> None:
    box = {"is_llama_server": True, "has_slots": True, "gpu_load_known": None, **traits}

    plan = Plan(**box, max_loaded=1, dies_after_s=0.5, households=(household,), weather=weather)  # type: ignore[arg-type]  # a trait each

    _open_no_case(plan, 4500.0)


def _open_no_case(plan: Plan, seconds: float = TWO_HOURS_S) -> None:
    life = plan.life()
    attendant = Attendant(life.box)

    live_through(attendant, life, seconds, until=lambda: bool(attendant.events))

    assert attendant.events == []
