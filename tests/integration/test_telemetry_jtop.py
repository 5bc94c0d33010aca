"""Guards facts/gpu.md §6: the service of jetson-stats is used while it lives, and never believed when it lies dead.

The real client of jetson-stats, in the real child, against a service that the tests freeze, kill and start again.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from arasul_supervisor.telemetry.gpu.kinds import JTOP_SOCKET, jtop_kind
from tests.engine.jtop_ground import LIMITS, Service, box
from tests.engine.jtop_ground import service as service
from tests.engine.telemetry_ground import is_alive, until

if TYPE_CHECKING:
    from pathlib import Path

IMPATIENT = replace(LIMITS, init_s=1.5)
TOOLS_OF_THE_PACKAGE = ("which", "dpkg", "opencv_version", "nvcc", "vulkaninfo")

needs_the_client = pytest.mark.skipif(
    importlib.util.find_spec("jtop") is None,
    reason="NOT TESTED: jetson-stats as a source, for it is not installed",
)


@needs_the_client
async def test_a_living_service_gives_the_figures_that_it_alone_has(service: Service) -> None:
    service.start()

    async with box(service) as it:
        await until(lambda: it.has_figures)

        shown = it.shown
        assert shown is not None
        assert shown.processes is not None
        assert [(process.pid, process.memory_bytes) for process in shown.processes] == [
            (1792595, 24090259456)
        ]
        assert (shown.temperature_c, shown.clock_mhz) == (64.25, 1300.5)
        assert it.view.emc_percent == 61
        assert (it.report.state, len(it.pids.ever)) == ("ok", 1)
        assert "jtop" not in sys.modules, "the package must stay in its own process"


@needs_the_client
async def test_figures_stay_fresh_from_look_to_look_with_one_child(service: Service) -> None:
    service.start()

    async with box(service) as it:
        await until(lambda: it.has_figures)
        for _ in range(5):
            since_mono = time.monotonic()
            await until(lambda since_mono=since_mono: it.has_fresh_figures(since_mono=since_mono))  # type: ignore[misc]

        assert len(it.pids.ever) == 1
        assert it.diary.events("warning", "error") == []


@needs_the_client
async def test_the_client_runs_no_tool_and_loads_no_library_of_the_board(
    service: Service, tmp_path: Path
) -> None:
    marks = tmp_path / "marks"
    for tool in TOOLS_OF_THE_PACKAGE:
        (tmp_path / tool).write_text(f'#!/bin/sh\necho {tool} "$@" >> {marks}\n')
        (tmp_path / tool).chmod(0o755)
    service.start()

    async with box(service, environ={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}) as it:
        await until(lambda: it.has_figures)
        since_mono = time.monotonic()
        await until(lambda: it.has_fresh_figures(since_mono=since_mono))

    assert not marks.exists(), marks.read_text()


async def test_without_a_socket_there_is_no_child(service: Service) -> None:
    async with box(service) as it:
        await until(lambda: it.report.has_answered)

        assert it.report.state == "none"
        assert JTOP_SOCKET in it.report.sentence
        assert it.pids.ever == []


async def test_without_the_package_the_source_says_what_to_install(service: Service) -> None:
    service.socket.touch()
    without = replace(jtop_kind(), arguments=lambda root: ("", str(root / JTOP_SOCKET)))

    async with box(service, kind=without) as it:
        await until(lambda: it.report.has_answered)

        assert it.report.state == "none"
        assert "arasul-supervisor[jetson]" in it.report.sentence


@needs_the_client
async def test_a_socket_that_a_dead_service_left_gives_the_reason_and_is_used_once_it_lives(
    service: Service,
) -> None:
    service.start()
    service.kill()
    assert service.socket.exists()

    async with box(service) as it:
        await until(lambda: it.report.has_answered)
        assert it.report.state == "none"
        assert "not active" in it.report.sentence

        service.start()
        await until(lambda: it.has_figures)


@needs_the_client
async def test_a_service_of_another_version_gives_nothing_but_the_reason(service: Service) -> None:
    service.start("wrong-version")

    async with box(service) as it:
        await until(lambda: it.report.has_answered)

        assert it.report.state == "none"
        assert "1.0.0" in it.report.sentence
        assert it.report.readings == ()


@needs_the_client
async def test_a_service_that_never_answers_is_given_up_and_another_child_finds_the_living_one(
    service: Service,
) -> None:
    service.start("silent")

    async with box(service, limits=IMPATIENT) as it:
        await until(lambda: it.report.state == "stuck")
        await until(lambda: len(it.pids.ever) > 1)
        assert it.report.readings == ()
        assert not is_alive(it.pids.ever[0])

        service.stop()
        service.start()
        await until(lambda: it.has_figures, limit_s=8.0)


@pytest.mark.long  # the client's own time-outs
@needs_the_client
async def test_a_service_whose_sampler_is_dead_from_the_start_gives_nothing(service: Service) -> None:
    service.start("stale")

    async with box(service) as it:
        await until(lambda: it.report.has_answered, limit_s=10.0)

        assert it.report.state == "none"
        assert "nothing new for 3 s" in it.report.sentence
        assert it.report.readings == ()


@needs_the_client
async def test_figures_go_away_when_the_sampler_dies_and_come_back_after_a_restart(service: Service) -> None:
    service.start()

    async with box(service) as it:
        await until(lambda: it.has_figures)
        service.signal(signal.SIGUSR1)
        await until(lambda: "nothing new" in it.report.sentence, limit_s=8.0)
        await until(lambda: not it.has_figures)
        await until(lambda: not is_alive(it.pids.ever[0]))

        service.stop()
        service.start()
        await until(lambda: it.has_figures, limit_s=8.0)


@pytest.mark.long
@needs_the_client
async def test_figures_go_away_while_the_service_is_frozen_and_come_back_when_it_thaws(
    service: Service,
) -> None:
    service.start()

    async with box(service, limits=IMPATIENT) as it:
        await until(lambda: it.has_figures)
        service.signal(signal.SIGSTOP)
        await until(lambda: "nothing new" in it.report.sentence, limit_s=8.0)
        await until(lambda: not it.has_figures)
        await until(lambda: it.report.state == "stuck", limit_s=8.0)  # the next child waits for its greeting

        service.signal(signal.SIGCONT)
        await until(lambda: it.has_figures, limit_s=8.0)


@needs_the_client
async def test_a_frozen_service_delays_no_shutdown(service: Service) -> None:
    service.start()
    service.signal(signal.SIGSTOP)

    async with box(service) as it:
        await until(lambda: it.report.child_pid is not None)

    assert len(it.pids.ever) == 1


@needs_the_client
async def test_a_killed_service_is_seen_at_once_and_its_successor_is_met_by_a_fresh_child(
    service: Service,
) -> None:
    service.start()

    async with box(service) as it:
        await until(lambda: it.has_figures)
        service.kill()
        await until(lambda: not is_alive(it.pids.ever[0]))
        await until(lambda: not it.has_figures)

        service.start()
        restarted_mono = time.monotonic()
        await until(lambda: it.has_fresh_figures(since_mono=restarted_mono))
        assert it.report.child_pid != it.pids.ever[0]


@needs_the_client
async def test_a_service_that_is_restarted_at_once_is_met_again(service: Service) -> None:
    service.start()

    async with box(service) as it:
        await until(lambda: it.has_figures)
        service.stop()
        service.start()
        restarted_mono = time.monotonic()

        await until(lambda: it.has_fresh_figures(since_mono=restarted_mono))
        assert it.report.child_pid != it.pids.ever[0]
