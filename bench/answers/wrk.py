"""Load by `wrk`: one thread, kept-alive connections that each ask again as soon as they are answered."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.packages import debian_program, why_not

if TYPE_CHECKING:
    from bench.packages import Program

SUMMARY: Final = Path(__file__).with_name("wrk_summary.lua")
TIMEOUT_S: Final = 10
"""An answer that takes longer counts as none."""


@dataclass(frozen=True, slots=True)
class Load:
    """What one run saw. `n_refused`: answers of 400 and above; `n_unanswered`: connections and requests that failed."""

    requests_per_s: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    n_answers: int
    n_refused: int
    n_unanswered: int


class Wrk:
    """The program, ready to run."""

    def __init__(self, program: Program) -> None:
        self._program = program

    def load(self, port: int, path: str, *, connections: int, seconds: int) -> Load:
        """Ask for that path for so many seconds.

        :raises RuntimeError: nothing at all was answered
        """
        options = ("-t1", f"-c{connections}", f"-d{seconds}s", f"--timeout={TIMEOUT_S}s", "-s", str(SUMMARY))
        ran = subprocess.run(
            self._program.command(*options, f"http://127.0.0.1:{port}{path}"),
            env={**os.environ, **self._program.environment},
            capture_output=True,
            text=True,
            check=True,
        )
        seen = parse_summary(ran.stdout)
        if not seen.n_answers:
            raise RuntimeError(f"nothing at all was answered at {path} in {seconds} s")
        return seen


def find_wrk() -> Wrk | str:
    """The program, or why there is none."""
    program = debian_program("wrk")
    return why_not("wrk") if program is None else Wrk(program)


def parse_summary(text: str) -> Load:
    """What `wrk_summary.lua` wrote as the last line, `{"duration_us":1000000,"requests":20000,…}`."""
    seen = json.loads(text.rstrip().rpartition("\n")[2])
    return Load(
        requests_per_s=seen["requests"] / seen["duration_us"] * 1e6,
        p50_ms=seen["p50_us"] / 1e3,
        p99_ms=seen["p99_us"] / 1e3,
        max_ms=seen["max_us"] / 1e3,
        n_answers=seen["requests"],
        n_refused=seen["refused"],
        n_unanswered=seen["unanswered"],
    )
