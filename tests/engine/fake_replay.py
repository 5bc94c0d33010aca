"""The fake engine's mode `replay`: recorded lines as fast as asked, rule lines sown among them, each write timed.

As a program it writes to its own stderr, for comparison with an engine that nobody follows:
`fake_replay.py replay,file=…,total_mb=100 2>somewhere`.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from typing import TYPE_CHECKING

if __name__ == "__main__":
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from tests.engine.fake_modes import parse_life

if TYPE_CHECKING:
    from tests.engine.fake_modes import Mode

STDERR = 2
PREPARED_BYTES = 4 << 20
AHEAD_LOOK_S = 0.0005


class Replay:
    """One replay. A line that is sown may hold `{n}`, its number from 0 on, and `{mono_ns}`, when it is written."""

    def __init__(self, mode: Mode) -> None:
        file, sow = mode.text("file", ""), mode.text("sow", "")
        self._chunks = _chunks(_read(file), int(mode.number("write_kib", 64) * 1024)) if file else []
        self._sow_lines = _read(sow).splitlines(keepends=True) if sow else []
        self._total_bytes = mode.number("total_mb", 100) * 1e6 if file else 0
        self._bytes_per_s = mode.number("mb_per_s", 0) * 1e6
        self._ahead_bytes = mode.number("ahead_mb", 0) * 1e6
        self._sow_bytes = mode.number("sow_mb", 10) * 1e6
        self._sow_s = mode.number("sow_s", 0)
        self._sow_count = int(mode.number("sow_count", 0))
        self._over = mode.text("over", "replay over")
        self._note = mode.text("note", "")
        self._written = 0
        self._sown_ns: list[int] = []
        self._write_ns: list[int] = []

    def run(self) -> None:
        """Write it all, then the line `over`, then the note with the times."""
        began_ns = time.monotonic_ns()
        chances = random.Random(1)
        next_sow_s, next_sow_bytes = self._sow_s, self._sow_bytes
        turn = 0
        while self._is_on():
            if self._chunks:
                self._write(self._chunks[turn % len(self._chunks)])
                turn += 1
            elapsed_s = (time.monotonic_ns() - began_ns) / 1e9
            if self._sow_lines and (
                elapsed_s >= next_sow_s if self._sow_s else self._written >= next_sow_bytes
            ):
                self._sow()
                next_sow_bytes += self._sow_bytes
                next_sow_s = elapsed_s + chances.uniform(0.5, 1.5) * self._sow_s  # in step with no timer
            self._hold_back(elapsed_s, next_sow_s)
        ended_ns = time.monotonic_ns()
        os.write(STDERR, f"{self._over}\n".encode())
        self._take_note(began_ns, ended_ns)

    def _is_on(self) -> bool:
        if self._sow_count:
            return len(self._sown_ns) < self._sow_count
        return self._written < self._total_bytes

    def _write(self, chunk: bytes) -> None:
        begun = time.monotonic_ns()
        self._written += os.write(STDERR, chunk)
        self._write_ns.append(time.monotonic_ns() - begun)

    def _sow(self) -> None:
        n = len(self._sown_ns)
        line = self._sow_lines[n % len(self._sow_lines)].replace(b"{n}", b"%d" % n)
        now_ns = time.monotonic_ns()
        os.write(STDERR, line.replace(b"{mono_ns}", b"%d" % now_ns))
        self._sown_ns.append(now_ns)

    def _hold_back(self, elapsed_s: float, next_sow_s: float) -> None:
        """Keep to the rate, or within reach of who follows: what is read is freed, so the blocks tell what is not."""
        if not self._chunks:
            time.sleep(max(0.0, next_sow_s - elapsed_s))
        elif self._bytes_per_s:
            time.sleep(max(0.0, self._written / self._bytes_per_s - elapsed_s))
        while self._ahead_bytes and os.fstat(STDERR).st_blocks * 512 > self._ahead_bytes:
            time.sleep(AHEAD_LOOK_S)

    def _take_note(self, began_ns: int, ended_ns: int) -> None:
        if not self._note:
            return
        times = {"began_ns": began_ns, "ended_ns": ended_ns, "bytes": self._written}
        lists = {"write_ns": self._write_ns, "sown_ns": self._sown_ns}
        with open(f"{self._note}.new", "w", encoding="utf-8") as file:
            json.dump({**times, **lists}, file)
        os.rename(f"{self._note}.new", self._note)


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _chunks(text: bytes, size: int) -> list[bytes]:
    """The lines, again and again, in chunks of about that size, so that no writing time goes into making them."""
    lines = text.splitlines(keepends=True)
    chunks, chunk, made, turn = [], b"", 0, 0
    while made < PREPARED_BYTES:
        line = lines[turn % len(lines)]
        turn += 1
        if chunk and len(chunk) + len(line) > size:
            chunks.append(chunk)
            made, chunk = made + len(chunk), b""
        chunk += line
    return chunks


if __name__ == "__main__":
    Replay(parse_life(sys.argv[1])[0]).run()
