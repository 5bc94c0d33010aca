"""The engine's owner by itself, over real processes: what the daemon from outside cannot be brought to show."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import signal
import subprocess
import sys
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import pytest

from arasul_supervisor.clock import SystemClock
from arasul_supervisor.errors import EngineDown
from arasul_supervisor.supervision import effects
from arasul_supervisor.supervision.child import Child, Launch, Started, spawn
from arasul_supervisor.supervision.engine import Engine
from arasul_supervisor.supervision.init import Reaper, become_subreaper
from arasul_supervisor.supervision.process_stat import read_stat
from arasul_supervisor.supervision.restart_policy import RestartPolicy
from arasul_supervisor.supervision.runners import descendants
from arasul_supervisor.supervision.snapshot import Snapshot, State, Wanted
from arasul_supervisor.supervision.strays import MARKER_VARIABLE, Stray
from arasul_supervisor.supervision.tree import TreeEnd
from arasul_supervisor.supervision.wiring import EngineLimits, EngineWiring
from tests.engine.daemon import send
from tests.engine.processes import is_alive, pick_free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from arasul_supervisor.supervision.process_looks import Identity
    from tests.engine.fake import FakeEngine

PR_SET_CHILD_SUBREAPER = 36
MANY_CHILDREN = """
import asyncio, os, signal
from arasul_supervisor.supervision.init import Reaper
from arasul_supervisor.supervision.process_reading import children_of

async def main():
    reaper = Reaper()
    reaper.install(asyncio.get_running_loop())
    pids = []
    for _ in range(900):  # more than a page of the kernel's list tells
        if (pid := os.fork()) == 0:
            signal.pause()
        pids.append(pid)
    print(len(reaper.living_adopted()), len(children_of(os.getpid())))
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    for pid in pids:
        os.waitpid(pid, 0)

asyncio.run(main())
"""
MARKER = "0123456789abcdef0123456789abcdef:test"


class Told:
    """Keeps what is logged."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def debug(self, event: str, **_fields: object) -> None:
        self.events.append(event)

    info = warning = error = debug


@asynccontextmanager
async def owned(
    fake: FakeEngine,
    modes: str = "",
    *,
    policy: RestartPolicy | None = None,
    strays: Sequence[Stray] = (),
    program: Path | None = None,
    runs_already: bool = False,
    expect_deaths: Callable[[int, int], None] = lambda _generation, _ended: None,
) -> AsyncIterator[Engine]:
    """An engine with its owner, without a daemon around it; stopped at the end."""
    loop, port, reaper = asyncio.get_running_loop(), pick_free_port(), Reaper()
    become_subreaper()  # and no longer at the end: orphans of later tests are not this process's
    reaper.install(loop)
    environment = {"PATH": os.defpath, "OLLAMA_HOST": f"127.0.0.1:{port}", MARKER_VARIABLE: MARKER}
    environment.update(fake.environment(modes))

    def launch(n: int) -> Launch:
        return Launch((str(program or fake.binary), "serve"), environment, fake.folder / f"spool-{n}")

    first = Started(spawn(launch(1), generation=1, reaper=reaper), 1.0, 2.0) if runs_already else None
    engine = Engine(
        EngineWiring(
            launch,
            lambda _lines: None,
            lambda _generation: (),
            lambda _code: None,
            expect_deaths,
        ),
        EngineLimits("127.0.0.1", port, startup_s=10, stop_s=1, grace_s=300),
        policy or RestartPolicy(stable_s=0),
        marker=MARKER,
        reaper=reaper,
        clock=SystemClock(),
        log=Told(),
    )
    owner = loop.create_task(engine.run(strays, first=first))
    try:
        yield engine
        await asyncio.wait_for(engine.shut_down(), 10)
    finally:
        owner.cancel()
        await asyncio.gather(owner, return_exceptions=True)
        reaper.uninstall(loop)
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


async def until(engine: Engine, state: State, *, generation: int = 0) -> Snapshot:
    """Wait for that state in at least that generation."""
    wanted = engine.wait_until(lambda seen: seen.state is state and seen.generation >= generation)
    return await asyncio.wait_for(wanted, 10)


@pytest.fixture
def unkillable_stray(monkeypatch: pytest.MonkeyPatch) -> list[Stray]:
    """What every sweep finds alive, until the list is emptied."""
    living = [Stray(4194303, "llama-server", "nvidia_ioctl")]
    monkeypatch.setattr(
        "arasul_supervisor.supervision.strays.sweep", lambda _marker, bound_s: ([], list(living))
    )
    monkeypatch.setattr("arasul_supervisor.supervision.effects._SWEEP_PAUSE_S", 0.02)
    return living


async def test_what_runs_already_is_the_first_generation(fake_engine: FakeEngine) -> None:
    async with owned(fake_engine, runs_already=True) as engine:
        seen = await until(engine, State.RUNNING)
        assert (seen.generation, fake_engine.lives()) == (1, [seen.pid])
        assert (seen.started_at, seen.started_mono) == (1.0, 2.0)


async def test_what_ran_already_and_has_died_meanwhile_is_followed_by_the_second_generation(
    fake_engine: FakeEngine,
) -> None:
    policy = RestartPolicy(stable_s=0, base_s=0.01)
    async with owned(fake_engine, "crash|healthy", policy=policy, runs_already=True) as engine:
        seen = await until(engine, State.RUNNING, generation=2)
        assert seen.last_exit is not None
        assert (seen.last_exit.generation, len(fake_engine.lives())) == (1, 2)


async def test_a_first_engine_that_its_owner_failed_to_take_over_is_not_said_to_be_gone(
    fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[Child] = []

    def refuse(child: Child, *_parts: object) -> None:
        refused.append(child)
        raise OSError(errno.ENOSPC, "no watch is left")

    monkeypatch.setattr(effects, "Generation", refuse)
    async with owned(fake_engine, runs_already=True) as engine:
        await asyncio.sleep(0.1)  # its owner has failed
        was_gone = engine.is_gone
    (child,) = refused
    os.kill(child.pid, signal.SIGKILL)
    await asyncio.to_thread(os.waitpid, child.pid, 0)
    child.close()
    assert not was_gone


async def test_a_look_at_our_children_sees_all_of_them() -> None:
    shown = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", MANY_CHILDREN], capture_output=True, text=True, check=True
    )
    assert shown.stdout == "900 900\n"


async def test_strays_that_nothing_ends_are_fatal_and_nothing_is_started_beside_them(
    fake_engine: FakeEngine, unkillable_stray: list[Stray]
) -> None:
    async with owned(fake_engine, strays=unkillable_stray) as engine:
        seen = await until(engine, State.FATAL)
        assert seen.wanted is Wanted.UP
        assert seen.failure is not None
        assert seen.failure.code == "unkillable"
        assert "4194303" in seen.failure.sentence
        assert "nvidia_ioctl" in seen.failure.sentence
        assert fake_engine.lives() == []


async def test_a_start_or_stop_while_they_live_says_fatal_again(
    fake_engine: FakeEngine, unkillable_stray: list[Stray]
) -> None:
    async with owned(fake_engine, strays=unkillable_stray) as engine:
        await until(engine, State.FATAL)
        assert (await asyncio.wait_for(engine.start(), 5)).state is State.FATAL
        assert (await asyncio.wait_for(engine.stop(), 5)).state is State.FATAL
        assert fake_engine.lives() == []


async def test_once_they_are_gone_the_engine_is_started(
    fake_engine: FakeEngine, unkillable_stray: list[Stray]
) -> None:
    async with owned(fake_engine, strays=unkillable_stray) as engine:
        await until(engine, State.FATAL)
        unkillable_stray.clear()
        seen = await until(engine, State.RUNNING)
        assert seen.failure is None
        assert seen.generation == 1


async def test_a_tree_that_survives_is_fatal_until_it_goes_and_then_the_engine_comes_back(
    fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    truly, holds = TreeEnd.advance, asyncio.Event()
    monkeypatch.setattr(TreeEnd, "advance", lambda tree, reaper: truly(tree, reaper) and holds.is_set())
    monkeypatch.setattr("arasul_supervisor.supervision.generation._UNKILLABLE_S", 0.1)
    async with owned(fake_engine) as engine:
        first = await until(engine, State.RUNNING)
        os.kill(first.pid or 0, signal.SIGKILL)
        seen = await until(engine, State.FATAL)
        assert seen.failure is not None
        assert seen.failure.code == "unkillable"
        assert seen.generation == 1
        holds.set()
        again = await until(engine, State.RUNNING, generation=2)
        assert again.failure is None


async def test_a_stop_during_starting_ends_it_and_it_stays_down(fake_engine: FakeEngine) -> None:
    async with owned(fake_engine, "slow_start,after_s=5") as engine:
        starting = await until(engine, State.STARTING)
        seen = await asyncio.wait_for(engine.stop(), 5)
        assert (seen.state, seen.wanted) == (State.STOPPED, Wanted.DOWN)
        assert not is_alive(starting.pid or 0)


async def test_a_start_during_stopping_is_a_new_generation_once_the_old_one_is_gone(
    fake_engine: FakeEngine,
) -> None:
    async with owned(fake_engine, "slow_stop,after_s=0.3") as engine:
        first = await until(engine, State.RUNNING)
        engine.ask_stop()
        await until(engine, State.STOPPING)
        seen = await asyncio.wait_for(engine.start(), 10)
        assert (seen.state, seen.generation) == (State.RUNNING, 2)
        assert not is_alive(first.pid or 0)


async def test_a_second_stop_waits_for_the_same_end(fake_engine: FakeEngine) -> None:
    async with owned(fake_engine, "slow_stop,after_s=0.3") as engine:
        await until(engine, State.RUNNING)
        seen = await asyncio.wait_for(asyncio.gather(engine.stop(), engine.stop()), 5)
        assert [snapshot.state for snapshot in seen] == [State.STOPPED, State.STOPPED]


async def test_a_stop_in_the_pause_before_the_next_start_is_a_stop(fake_engine: FakeEngine) -> None:
    policy = RestartPolicy(base_s=30, start_retries=9)
    async with owned(fake_engine, "crash,message=boom", policy=policy) as engine:
        waiting = await asyncio.wait_for(engine.wait_until(lambda seen: seen.next_attempt_at is not None), 10)
        seen = await asyncio.wait_for(engine.stop(), 5)
        assert seen.state is State.STOPPED
        assert seen.next_attempt_at is None
        assert seen.generation == waiting.generation


async def test_a_start_in_the_pause_begins_at_once_and_forgets_the_short_lives(
    fake_engine: FakeEngine,
) -> None:
    policy = RestartPolicy(base_s=30, start_retries=9)
    async with owned(fake_engine, "crash,message=boom|crash,message=boom|healthy", policy=policy) as engine:
        await asyncio.wait_for(engine.wait_until(lambda seen: seen.next_attempt_at is not None), 10)
        seen = await asyncio.wait_for(engine.start(), 10)
        assert (seen.state, seen.short_lives, seen.restarts) == (State.RUNNING, 0, 1)


async def test_many_commands_at_once_settle_and_never_make_two_engines(fake_engine: FakeEngine) -> None:
    async with owned(fake_engine, "helpers,count=1;escape,count=1") as engine:
        await until(engine, State.RUNNING)
        commands = [engine.restart, engine.start, engine.stop] * 7
        await asyncio.wait_for(asyncio.gather(*(command() for command in commands)), 15)
        seen = await asyncio.wait_for(engine.start(), 10)
        assert seen.state is State.RUNNING
        assert [pid for pid in fake_engine.lives() if is_alive(pid)] == [seen.pid]


async def test_runners_are_ended_without_the_engine(fake_engine: FakeEngine) -> None:
    expected: list[tuple[int, int]] = []
    async with owned(fake_engine, "runners", expect_deaths=lambda *told: expected.append(told)) as engine:
        seen = await until(engine, State.RUNNING)
        port = int(fake_engine.dump()["environ"]["OLLAMA_HOST"].rpartition(":")[2])
        load = {"model": "tiny", "keep_alive": 300}
        assert (await asyncio.to_thread(send, port, "POST", "/api/generate", body=load)).status == 200
        (runner,) = descendants(seen.pid or 0)
        assert await engine.kill_runners() == 1
        assert not is_alive(runner)
        assert is_alive(seen.pid or 0)
        assert engine.snapshot.generation == 1
        assert expected == [(1, 0), (1, 1)]  # or the log would call it a crash


async def test_named_runners_are_ended_without_the_engine_and_told_to_the_log(
    fake_engine: FakeEngine,
) -> None:
    expected: list[tuple[int, int]] = []
    async with owned(fake_engine, "runners", expect_deaths=lambda *told: expected.append(told)) as engine:
        seen = await until(engine, State.RUNNING)
        runner = await loaded_runner(fake_engine, seen)
        assert await engine.end_runners([runner]) == {runner}
        assert not is_alive(runner[0])
        assert is_alive(seen.pid or 0)
        assert expected == [(1, 0), (1, 1)]


async def test_a_named_runner_that_is_gone_already_counts_as_dead_and_not_as_ours(
    fake_engine: FakeEngine,
) -> None:
    expected: list[tuple[int, int]] = []
    async with owned(fake_engine, "runners", expect_deaths=lambda *told: expected.append(told)) as engine:
        pid, start = await loaded_runner(fake_engine, await until(engine, State.RUNNING))
        assert await engine.end_runners([(pid, start - 1)]) == {(pid, start - 1)}
        assert is_alive(pid)
        assert expected == [(1, 0), (1, 0)]


async def test_an_orphan_is_ended_and_the_engine_does_not_meet_it_dead(fake_engine: FakeEngine) -> None:
    expected: list[tuple[int, int]] = []
    orphan = subprocess.Popen(["/bin/sleep", "60"])  # noqa: ASYNC220 - it forks once
    identity = identity_of(orphan.pid)
    async with owned(fake_engine, expect_deaths=lambda *told: expected.append(told)) as engine:
        await until(engine, State.RUNNING)
        assert await engine.end_runners([identity]) == {identity}
        assert expected == [(1, 0), (1, 0)]
    orphan.wait()


async def test_a_stopped_engine_is_continued_and_thaws(fake_engine: FakeEngine) -> None:
    async with owned(fake_engine) as engine:
        seen = await until(engine, State.RUNNING)
        os.kill(seen.pid or 0, signal.SIGSTOP)
        await asyncio.wait_for(engine.wait_until(lambda now: now.is_frozen), 10)
        identity = identity_of(seen.pid or 0)
        assert await engine.continue_processes([identity]) == {identity}
        thawed = await asyncio.wait_for(engine.wait_until(lambda now: not now.is_frozen), 10)
        assert (thawed.state, thawed.generation) == (State.RUNNING, 1)


async def test_a_cure_restarts_says_why_and_counts_as_ours(fake_engine: FakeEngine) -> None:
    async with owned(fake_engine) as engine:
        await until(engine, State.RUNNING)
        engine.ask_cure_restart("restarted by healing: it was sick")
        seen = await until(engine, State.RUNNING, generation=2)
        assert seen.last_exit is not None
        assert seen.last_exit.reason.startswith("restarted by healing: it was sick; ")
        assert (seen.last_exit.was_asked, seen.restarts, seen.wanted) == (True, 1, Wanted.UP)


async def test_a_cure_of_an_engine_that_takes_no_sigterm_still_says_why(fake_engine: FakeEngine) -> None:
    async with owned(fake_engine, "ignore_term") as engine:
        await until(engine, State.RUNNING)
        engine.ask_cure_restart("restarted by healing: it was sick")
        seen = await until(engine, State.RUNNING, generation=2)
        assert seen.last_exit is not None
        assert seen.last_exit.reason.startswith(
            "restarted by healing: it was sick; still there 1 s after SIGTERM; "
        )


@pytest.mark.parametrize("is_stop_first", [True, False])
async def test_a_stop_beside_a_cure_wins(fake_engine: FakeEngine, is_stop_first: bool) -> None:
    async with owned(fake_engine) as engine:
        await until(engine, State.RUNNING)
        cure = partial(engine.ask_cure_restart, "restarted by healing: it was sick")
        for order in (engine.ask_stop, cure) if is_stop_first else (cure, engine.ask_stop):
            order()
        seen = await until(engine, State.STOPPED)
        await engine.take_turn()
        assert (engine.snapshot.state, seen.wanted, seen.generation) == (State.STOPPED, Wanted.DOWN, 1)


async def test_a_start_after_a_stop_that_overtook_a_cure_is_no_restart_of_ours(
    fake_engine: FakeEngine,
) -> None:
    async with owned(fake_engine) as engine:
        await until(engine, State.RUNNING)
        engine.ask_cure_restart("restarted by healing: it was sick")
        await asyncio.wait_for(engine.stop(), 10)
        assert (await asyncio.wait_for(engine.start(), 10)).restarts == 0


async def test_a_cure_of_an_engine_that_is_stopped_does_nothing(fake_engine: FakeEngine) -> None:
    async with owned(fake_engine) as engine:
        await until(engine, State.RUNNING)
        await asyncio.wait_for(engine.stop(), 10)
        engine.ask_cure_restart("restarted by healing: it was sick")
        await engine.take_turn()
        assert engine.snapshot.state is State.STOPPED


async def test_a_cure_of_an_earlier_engine_leaves_the_present_one_alone(fake_engine: FakeEngine) -> None:
    async with owned(fake_engine) as engine:
        await until(engine, State.RUNNING)
        await asyncio.wait_for(engine.restart(), 10)
        engine.ask_cure_restart("restarted by healing: it was sick", generation=1)
        await engine.take_turn()
        assert (engine.snapshot.state, engine.snapshot.generation) == (State.RUNNING, 2)


async def test_a_crash_is_told_apart_from_an_end_that_was_asked_for(fake_engine: FakeEngine) -> None:
    async with owned(fake_engine) as engine:
        seen = await until(engine, State.RUNNING)
        os.kill(seen.pid or 0, signal.SIGSEGV)
        crashed = await until(engine, State.RUNNING, generation=2)
        stopped = await asyncio.wait_for(engine.stop(), 10)
        assert crashed.last_exit is not None
        assert stopped.last_exit is not None
        assert (crashed.last_exit.was_asked, stopped.last_exit.was_asked) == (False, True)


async def loaded_runner(fake: FakeEngine, seen: Snapshot) -> Identity:
    """The runner of a model that was just loaded."""
    port = int(fake.dump()["environ"]["OLLAMA_HOST"].rpartition(":")[2])
    load = {"model": "tiny", "keep_alive": 300}
    assert (await asyncio.to_thread(send, port, "POST", "/api/generate", body=load)).status == 200
    (runner,) = descendants(seen.pid or 0)
    return identity_of(runner)


def identity_of(pid: int) -> Identity:
    """A process as it is known for certain."""
    stat = read_stat(pid)
    assert stat is not None
    return pid, stat.start_ticks


async def test_an_owner_that_fails_takes_the_engine_along(
    fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr("arasul_supervisor.supervision.effects.Effects._terminate", fail)
    async with owned(fake_engine, "ignore_term") as engine:
        seen = await until(engine, State.RUNNING)
        engine.ask_stop()
        await asyncio.to_thread(wait_until, lambda: not is_alive(seen.pid or 0), limit_s=5, what="its end")
        with pytest.raises(EngineDown):
            await engine.start()
        await asyncio.to_thread(wait_until, lambda: engine.is_gone, limit_s=5, what="all of it to be gone")


async def test_a_start_asked_for_while_the_daemon_ends_is_not_obeyed(fake_engine: FakeEngine) -> None:
    async with owned(fake_engine, "slow_stop,after_s=0.3") as engine:
        await until(engine, State.RUNNING)
        ending = asyncio.ensure_future(engine.shut_down())
        await until(engine, State.STOPPING)
        engine.ask_start()
        engine.ask_restart()
        await asyncio.wait_for(ending, 5)
        assert engine.snapshot.state is State.STOPPED
        assert len(fake_engine.lives()) == 1


async def test_a_large_process_outside_the_group_is_dead_before_the_next_start(
    fake_engine: FakeEngine, tmp_path: Path
) -> None:
    noted = tmp_path / "large.pid"
    code = f"import os,time;x=bytearray(600<<20);open('{noted}','w').write(str(os.getpid()));time.sleep(60)"
    wrapper = tmp_path / "wrapper"
    large = f'setsid {sys.executable} -S -c "{code}" &'
    wrapper.write_text(f"#!/bin/sh\ntest -e {noted} || {large}\nexec {fake_engine.binary} serve\n")
    wrapper.chmod(0o755)
    async with owned(fake_engine, program=wrapper) as engine:
        first = await until(engine, State.RUNNING)
        await asyncio.to_thread(
            wait_until, lambda: noted.exists() and noted.read_text(), limit_s=10, what="it"
        )
        pid, alive_at_spawn = int(noted.read_text()), list[bool]()
        engine.subscribe(lambda seen: alive_at_spawn.append(is_alive(pid)) if seen.generation == 2 else None)
        os.kill(first.pid or 0, signal.SIGKILL)
        await until(engine, State.RUNNING, generation=2)
        assert alive_at_spawn
        assert not any(alive_at_spawn)
