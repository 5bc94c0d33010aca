"""Guards that the lines of ordinary work pass the prefilter by: what it costs decides how fast a flood is read."""

from __future__ import annotations

from pathlib import Path

from arasul_supervisor.logs.meaning.prefilter import candidate_lines

SESSION = Path(__file__).parents[2] / "bench" / "logs" / "engine_session.log"


def test_of_a_recorded_load_with_its_answers_only_the_load_is_looked_at() -> None:
    session = SESSION.read_bytes()
    looked_at = [session[start:end] for start, end in candidate_lines(session)]
    told = [b'"starting llama-server"', b"example_format: '", *[b'"llama-server started in '] * 2]
    assert len(looked_at) == len(told)
    assert all(what in line for what, line in zip(told, looked_at, strict=True))
