"""Healthy lives for Hypothesis to choose from: every slowness that the facts tell of, in any mixture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from hypothesis import strategies as st

from tests.engine.simulated_acts import (
    Abandoned,
    Act,
    Answer,
    Embeddings,
    Hardware,
    Load,
    PullAndDelete,
    PullNewer,
    Rest,
    Unload,
    UnreadAnswer,
)
from tests.engine.simulated_box import Box
from tests.engine.simulated_life import Household, Life
from tests.engine.simulated_weather import (
    BeatsMissed,
    Calm,
    ClocksJump,
    ClockSlewed,
    Debugger,
    EngineSwapped,
    LooksLate,
    MemoryShort,
    QueueFull,
    RunnerSwapped,
    Starved,
    Weather,
    WitnessSilent,
)

FOR_EVER_S: Final = 1e10
KEEP_ALIVES_S: Final = (0.0, 30.0, 300.0, 3600.0, FOR_EVER_S)
LONGEST_ENCODING_S: Final = 900.0
LONGEST_QUIET_ENCODING_S: Final = 540.0
"""Beside a thread that sleeps only the GPU shows that an image is being read, and other models may load it too."""
UNSEEN_S: Final = 45.0
"""Where neither the processor nor the GPU tells, nothing slower than one token is told from a hang."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A box and what happens in it, as Hypothesis prints it."""

    is_llama_server: bool
    has_slots: bool
    gpu_load_known: bool | None
    max_loaded: int
    dies_after_s: float
    households: tuple[Household, ...]
    weather: tuple[Weather, ...]

    def life(self) -> Life:
        """A new box that lives so."""
        box = Box(
            is_llama_server=self.is_llama_server,
            has_slots=self.has_slots,
            gpu_load_known=self.gpu_load_known,
            max_loaded=self.max_loaded,
            dies_after_s=self.dies_after_s,
        )
        return Life(box, self.households, self.weather)


def seconds(least: float, most: float) -> st.SearchStrategy[float]:
    """Mostly the ends of the range, which hurt most."""
    return st.one_of(st.sampled_from((least, most)), st.integers(int(least), int(most)).map(float))


def loads() -> st.SearchStrategy[Load]:
    """Up to 300 s, with a disk that rests up to 60 s."""
    return st.one_of(
        st.builds(Load, reads=st.integers(1, 100), read_s=st.sampled_from((0.5, 1.0))),
        st.builds(
            Load,
            reads=st.integers(1, 5),
            read_s=st.sampled_from((0.5, 2.0)),
            rest_s=seconds(5, 58),
            is_silent=st.booleans(),
        ),
    )


def answers(*, longest_encoding_s: float) -> st.SearchStrategy[Answer]:
    """Long prompts, slow tokens, images; longer than the keep-alive."""
    keep_alive_s = st.sampled_from(KEEP_ALIVES_S)
    return st.one_of(
        st.builds(Answer, batches=st.integers(0, 30), batch_s=seconds(1, 30), keep_alive_s=keep_alive_s),
        st.builds(Answer, tokens=st.integers(1, 40), token_s=seconds(1, 45), keep_alive_s=keep_alive_s),
        st.builds(
            Answer,
            batches=st.just(1),
            tokens=st.integers(0, 2),
            encode_s=seconds(30, longest_encoding_s),
            encode_cores=st.sampled_from((2.0, 4.0, 8.0)),
            keep_alive_s=keep_alive_s,
        ),
    )


def acts(*, longest_encoding_s: float) -> st.SearchStrategy[Act]:
    """Whatever is done with one model."""
    keep_alive_s = st.sampled_from((30.0, 300.0, FOR_EVER_S))
    answer = answers(longest_encoding_s=longest_encoding_s)
    return st.one_of(
        answer,
        answer,
        st.builds(Abandoned, answer, after_s=seconds(1, 800)),
        st.builds(
            Embeddings,
            requests=st.integers(1, 20),
            pause_s=seconds(1, 100),
            keep_alive_s=keep_alive_s,
        ),
        st.builds(UnreadAnswer, for_s=seconds(60, 3600), keep_alive_s=keep_alive_s),
        st.builds(Rest, seconds(1, 3600)),
        st.builds(Rest, seconds(30, 200)),
        st.just(Unload()),
        st.just(PullNewer()),
        st.just(PullAndDelete()),
    )


def weathers() -> st.SearchStrategy[Weather]:
    """Whatever befalls a box."""
    return st.one_of(
        st.builds(Calm, seconds(10, 1200)),
        st.builds(
            Starved, share=st.sampled_from((0.001, 0.02)), silent_s=seconds(2, 100), times=st.integers(1, 5)
        ),
        st.builds(
            RunnerSwapped,
            which=st.integers(0, 4),
            for_s=seconds(30, 600),
            page_s=st.sampled_from((1.0, 12.0)),
        ),
        st.builds(EngineSwapped, for_s=seconds(10, 100), page_s=st.sampled_from((1.0, 10.0))),
        st.builds(BeatsMissed, beats=st.integers(1, 12), state=st.sampled_from("SDT")),
        st.builds(Debugger, which=st.integers(0, 4), for_s=seconds(20, 600), is_of_engine=st.booleans()),
        st.builds(
            ClocksJump,
            mono_s=st.sampled_from((0.0, 600.0)),
            wall_s=st.sampled_from((-3600.0, 0.0, 4.0, 3600.0, 30_000.0)),
        ),
        st.builds(ClockSlewed, ratio=st.sampled_from((-0.08, 0.08))),
        st.builds(LooksLate, step_s=seconds(2, 14), for_s=seconds(60, 900)),
        st.builds(WitnessSilent, which=st.just("models"), for_s=seconds(5, 30)),
        st.builds(WitnessSilent, which=st.just("runners"), for_s=seconds(5, 60)),
        st.builds(QueueFull, for_s=seconds(60, 1800)),
        st.just(MemoryShort()),
    )


@st.composite
def plans(
    draw: st.DrawFn,
    *,
    with_weather: bool = True,
) -> Plan:
    """A box of either generation, with one to five models."""
    is_llama_server = draw(st.booleans())
    gpu_load_known = draw(st.sampled_from((None, True, False)))
    households = []
    for number in range(draw(st.integers(1, 5))):
        way = "cpu" if gpu_load_known is None else draw(st.sampled_from(("cpu", "gpu", "gpu_quiet")))
        longest_s = LONGEST_ENCODING_S
        if way == "gpu_quiet":
            longest_s = LONGEST_QUIET_ENCODING_S if gpu_load_known else UNSEEN_S
        households.append(
            Household(
                f"model{number}:latest",
                Hardware(way, cores=draw(st.sampled_from((1.0, 4.0)))),
                draw(loads()),
                tuple(draw(st.lists(acts(longest_encoding_s=longest_s), min_size=1, max_size=5))),
                first_s=draw(seconds(0, 60)),
            )
        )
    return Plan(
        is_llama_server=is_llama_server,
        has_slots=is_llama_server and draw(st.booleans()),
        gpu_load_known=gpu_load_known,
        max_loaded=draw(st.integers(1, 3)),
        dies_after_s=draw(st.sampled_from((0.1, 5.0))),
        households=tuple(households),
        weather=tuple(draw(st.lists(weathers(), max_size=12))) if with_weather else (),
    )
