"""Guards that an operator's logrotate, by rename or by copytruncate, costs and doubles no line while lines flow.

Apart from copytruncate's own gap: what is written between its copy and its truncation.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from tests.engine.log_ground import LogGround, child_writes

if TYPE_CHECKING:
    from pathlib import Path


def flow_until(stop: Path) -> str:
    """What a child writes until that file is there: numbered lines, then `the end`."""
    return f"""
import itertools, time
for n in itertools.count(step=100):
    os.write(fd, b"".join(b"line %d\\n" % m for m in range(n, n + 100)))
    time.sleep(0.002)
    if os.path.exists({str(stop)!r}):
        break
os.write(fd, b"the end\\n")
"""


async def until_grown(ground: LogGround) -> None:
    await ground.until(lambda: ground.public.exists() and ground.public.stat().st_size > 20_000)


@pytest.mark.parametrize("is_told", [True, False], ids=["with SIGHUP", "without"])
async def test_rotations_by_rename_while_lines_flow_lose_and_double_nothing(
    tmp_path: Path, is_told: bool
) -> None:
    ground = LogGround(tmp_path)
    spool = ground.begin(1)
    moved: list[Path] = []
    async with ground.running():
        flow = asyncio.create_task(child_writes(spool, flow_until(tmp_path / "stop")))
        for number in range(3):
            await until_grown(ground)
            moved.append(tmp_path / f"moved-{number}")
            os.rename(ground.public, moved[-1])
            if is_told:
                ground.log.reopen()
            elif number == 1:
                ground.public.touch(mode=0o640)  # logrotate's `create`
        await until_grown(ground)
        (tmp_path / "stop").touch()
        await flow
        await ground.until_text("the end")
    assert all(part.stat().st_size > 20_000 for part in moved)
    lines = b"".join(part.read_bytes() for part in [*moved, ground.public]).splitlines()
    assert lines == [*(b"line %d" % n for n in range(len(lines) - 1)), b"the end"]


async def test_a_copytruncate_while_lines_flow_doubles_nothing_and_loses_only_its_own_gap(
    tmp_path: Path,
) -> None:
    ground = LogGround(tmp_path)
    spool = ground.begin(1)
    copies: list[bytes] = []
    async with ground.running():
        flow = asyncio.create_task(child_writes(spool, flow_until(tmp_path / "stop")))
        for number in range(3):
            await until_grown(ground)
            copy = tmp_path / f"copy-{number}"
            shutil.copyfile(ground.public, copy)
            os.truncate(ground.public, 0)
            copies.append(copy.read_bytes())
        await until_grown(ground)
        (tmp_path / "stop").touch()
        await flow
        await ground.until_text("the end")
    parts = [*copies, ground.public.read_bytes()]
    numbers = [int(n) for part in parts for n in re.findall(rb"^line (\d+)\n", part, re.MULTILINE)]
    assert numbers == sorted(set(numbers))
    assert sum(later != number + 1 for number, later in pairwise(numbers)) <= len(copies)
    assert parts[-1].endswith(b"line %d\nthe end\n" % numbers[-1])
    assert all(part.startswith(b"line ") for part in parts)
