"""`doctor`: everything that can make a GPU invisible to Ollama, each with what to do. Needs no daemon and no root."""

from __future__ import annotations

import os
import re
import shutil
import sys
import textwrap
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from arasul_supervisor.cli.bodies import number, part, printable, word
from arasul_supervisor.cli.client import DaemonError, daemon_of, objects
from arasul_supervisor.cli.output import add_client_parser, print_json
from arasul_supervisor.ollama.engine_variables import engine_variable_problems
from arasul_supervisor.ollama.environment import MARKER_VARIABLE
from arasul_supervisor.ollama.generation import engine_generation
from arasul_supervisor.settings import SettingsError, load_settings
from arasul_supervisor.telemetry.gpu import nvml_verdict as nvml
from arasul_supervisor.telemetry.gpu.kinds import jtop_kind
from arasul_supervisor.telemetry.gpu.nvml_lines import SHARES_HOST_MEMORY
from arasul_supervisor.telemetry.host import read_memory
from arasul_supervisor.telemetry.visibility import (
    checks_access,
    checks_driver,
    checks_engine,
    checks_environment,
)
from arasul_supervisor.telemetry.visibility import checks_health as health
from arasul_supervisor.telemetry.visibility.engine_files import read_engine_files
from arasul_supervisor.telemetry.visibility.facts import read_board, read_docker, read_driver, read_names
from arasul_supervisor.telemetry.visibility.finding import FAIL, OK, SKIP, WARN, Finding
from arasul_supervisor.telemetry.visibility.kernel_log import read_kernel_log
from arasul_supervisor.telemetry.visibility.nodes import read_nodes, try_nodes
from arasul_supervisor.telemetry.visibility.viewpoint import engine_viewpoint, own_viewpoint

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping

    from arasul_supervisor.cli.client import Daemon
    from arasul_supervisor.cli.output import Subparsers
    from arasul_supervisor.settings import Settings
    from arasul_supervisor.telemetry.gpu.readings import GpuReading
    from arasul_supervisor.telemetry.visibility.engine_files import EngineFiles
    from arasul_supervisor.telemetry.visibility.facts import Driver
    from arasul_supervisor.telemetry.visibility.viewpoint import Viewpoint

DAEMON_TIMEOUT_S: Final = 2.0
OPEN_TIMEOUT_S: Final = 3.0
NVML_TIMEOUT_S: Final = 10.0  # a card that nobody holds is woken first, which takes seconds
COLOURS: Final = {OK: "\x1b[32m", WARN: "\x1b[33m", FAIL: "\x1b[1;31m", SKIP: "\x1b[2m"}  # ECMA-48
PLAIN: Final = "\x1b[0m"
SUBJECT_WIDTH: Final = 12
WIDEST: Final = 100
_VERSION: Final = re.compile(r"v?(\d{1,6})\.(\d{1,6})\.(\d{1,6})(?!\d)")


@dataclass(frozen=True, slots=True)
class Told:
    """What the daemon says; `absence` is why it says nothing."""

    process: Mapping[str, object]
    health: Mapping[str, object]
    stats: Mapping[str, object]
    info: Mapping[str, object]
    absence: str = ""


@dataclass(frozen=True, slots=True)
class Ground:
    """Where to look: the settings of this shell, with the defaults for wrong ones, and a sentence for each of those.

    `settings` is None where even the defaults cannot be had.
    """

    settings: Settings | None
    problems: tuple[str, ...] = ()

    @property
    def root(self) -> Path:
        """Of all paths."""
        return self.settings.sysroot if self.settings else Path("/")


def add_parser(subparsers: Subparsers) -> None:
    """Adds the command."""
    add_client_parser(
        subparsers, "doctor", summary="check all that can hide a GPU from Ollama; exit 1 when some fail"
    )


def run(args: argparse.Namespace) -> int:
    """Prints a line for each check; 0 when none failed."""
    ground = _ground(os.environ)
    told = _ask(daemon_of(args))
    view = _viewpoint(told)
    findings = tuple(examine(ground, told, view))
    worst = next(
        (status for status in (FAIL, WARN, OK) if any(one.status == status for one in findings)), SKIP
    )
    if args.json:
        print_json(
            {"status": worst, "looked_at": view.sentence, "findings": [asdict(one) for one in findings]}
        )
    else:
        _print(view.sentence, findings)
    return 1 if worst == FAIL else 0


def examine(ground: Ground, told: Told, view: Viewpoint) -> Iterator[Finding]:
    """All checks, from the driver up to the engine."""
    root, environ = ground.root, view.environ
    driver, board = read_driver(root, environ), read_board(root)
    yield checks_driver.check_driver(driver, board)
    yield checks_driver.check_library(driver, board)
    nodes = read_nodes(root, driver)
    if driver.has_gpu:
        nodes = try_nodes(root, nodes, view.person, timeout_s=OPEN_TIMEOUT_S)
    yield from checks_access.check_nodes(
        driver, board, nodes, view.person, users=read_names(root, "passwd"), groups=read_names(root, "group")
    )
    yield checks_access.check_container(driver, board, nodes, environ)
    yield checks_access.check_cgroup_driver(driver, board, read_docker(root))
    verdict = nvml.nvml_verdict(timeout_s=NVML_TIMEOUT_S) if _is_worth_asking(driver) else None
    yield from health.check_nvml(verdict, driver, timeout_s=NVML_TIMEOUT_S)
    readings = health.own_cards(verdict.readings) if verdict else ()
    is_well = all(one.state in ("ok", "gated") for one in readings) if readings else None
    yield from health.check_kernel_log(read_kernel_log(root), driver, is_well=is_well)
    engine = read_engine_files(*_engine(ground, told, view))
    yield checks_engine.check_engine(engine, driver)
    yield checks_engine.check_jetpack(driver, board, engine, environ)
    yield from _variables(environ, driver, engine, readings)
    yield from _settings(ground, told, driver)
    names = [one.name or "" for one in readings]
    yield _memory(
        root, told, is_unified=driver.node is not None or any(map(SHARES_HOST_MEMORY.search, names))
    )
    if told.absence:
        yield Finding(SKIP, health.DAEMON, told.absence)
    else:
        yield health.check_daemon(told.health, tuple(objects(told.stats, "gpu_sources")))
    yield from map(health.check_jtop, _jtop_absence(ground, told))


def _ground(environ: Mapping[str, str]) -> Ground:
    """Wrong settings are findings, and no reason to look at nothing."""
    try:
        return Ground(load_settings(environ))
    except SettingsError as error:
        problems = error.problems
    wrong = {problem.partition(" ")[0] for problem in problems}  # each begins with its variable
    try:
        settings = load_settings({name: value for name, value in environ.items() if name not in wrong})
    except SettingsError:
        return Ground(None, problems)
    return Ground(settings, problems)


def _ask(daemon: Daemon) -> Told:
    try:
        return Told(
            process=daemon.get("/api/process", timeout_s=DAEMON_TIMEOUT_S),
            health=daemon.ask("GET", "/health", timeout_s=DAEMON_TIMEOUT_S).body,
            stats=daemon.get("/api/stats", timeout_s=DAEMON_TIMEOUT_S),
            info=daemon.get("/api/info", timeout_s=DAEMON_TIMEOUT_S),
        )
    except DaemonError as problem:
        return Told({}, {}, {}, {}, absence=problem.sentence)


def _viewpoint(told: Told) -> Viewpoint:
    pid = number(told.process, "pid")
    if pid is None:
        because = "No daemon answers." if told.absence else "The engine does not run."
        return own_viewpoint(os.environ, because=because)
    command = told.process.get("command")
    program = str(command[0]) if isinstance(command, list) and command else ""
    return engine_viewpoint(int(pid), marker=MARKER_VARIABLE, environ=os.environ, command=program)


def _engine(ground: Ground, told: Told, view: Viewpoint) -> tuple[Path | None, tuple[int, int, int] | None]:
    """The engine's file and version: those that run, else those that a start with these settings would run."""
    settings = ground.settings
    binary = view.program or (settings.engine_binary if settings else None)
    version = _VERSION.match(word(told.info, "ollama_version"))
    if version:
        return binary, (int(version[1]), int(version[2]), int(version[3]))
    return binary, engine_generation(binary, settings.state_dir) if binary and settings else None


def _is_worth_asking(driver: Driver) -> bool:
    """Whether a library may be there: in a container or under WSL nothing else may be seen of the GPU."""
    return driver.is_loaded or bool(driver.libraries)


def _variables(
    environ: Mapping[str, str], driver: Driver, engine: EngineFiles, readings: tuple[GpuReading, ...]
) -> Iterator[Finding]:
    """What hides the GPU, and what breaks the engine's look for one: it would not find any then."""
    problems = tuple(engine_variable_problems(environ))
    for problem in problems:
        yield Finding(FAIL, checks_environment.ENVIRONMENT, problem, "Correct it and restart the engine.")
    found = checks_environment.check_environment(environ, driver, engine, readings)
    yield from (one for one in found if not (problems and one.status == OK))


def _settings(ground: Ground, told: Told, driver: Driver) -> Iterator[Finding]:
    """The daemon's settings where it tells them, else those of this shell, whose faults mislead this command."""
    for problem in ground.problems:
        yield Finding(
            FAIL,
            checks_environment.SETTINGS,
            f"In this shell {problem}",
            f"Correct it and run this again: without it what is looked at lies below {ground.root}. "
            "`arasul-supervisor config` shows all settings.",
        )
    told_settings = part(told.info, "settings")
    if "ARASUL_GPU" in told_settings:
        layers = word(part(told_settings, "LLM_GPU_LAYERS"), "value")
        source = word(part(told_settings, "ARASUL_GPU"), "value") or "auto"
        yield checks_environment.check_settings(
            driver, gpu=source, gpu_layers=int(layers) if layers.isdecimal() else None
        )
    elif ground.settings is not None and not ground.problems:
        yield checks_environment.check_settings(
            driver, gpu=ground.settings.gpu, gpu_layers=ground.settings.gpu_layers
        )


def _jtop_absence(ground: Ground, told: Told) -> Iterator[str]:
    """Why jetson-stats gives nothing though it is asked for: by the daemon, or by a start with these settings."""
    if not told.absence:
        for source in objects(told.stats, "gpu_sources"):
            if word(source, "source") == health.JTOP and word(source, "state") not in ("ok", ""):
                yield word(source, "detail") or "jtop gives nothing."
        return
    kind = jtop_kind()
    if ground.settings is not None and ground.settings.jtop and not kind.look(ground.root).is_there:
        yield kind.absent


def _memory(root: Path, told: Told, *, is_unified: bool) -> Finding:
    """The limit is the daemon's, whose group the engine shares; this shell's where no daemon tells it."""
    memory = part(part(told.stats, "host"), "memory")
    figures: list[float | None]
    if memory:
        figures = [number(memory, f"{name}_bytes") for name in ("total", "cgroup_limit", "cgroup_current")]
    else:
        read = read_memory(root)
        figures = (
            [read.total_bytes, read.cgroup_limit_bytes, read.cgroup_current_bytes] if read else [None] * 3
        )
    total, limit, current = figures
    return health.check_memory(
        total_bytes=total, limit_bytes=limit, current_bytes=current, is_unified=is_unified
    )


def _print(looked_at: str, findings: tuple[Finding, ...]) -> None:
    """`ok    driver       …`, what to do below it, and the count of each word at the end."""
    width = min(WIDEST, shutil.get_terminal_size((80, 24)).columns)
    is_coloured = sys.stdout is not None and sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    print(_filled(printable(looked_at), width))
    print()
    for finding in findings:
        head = f"{finding.status:<5} {finding.subject:<{SUBJECT_WIDTH}} "
        text = _filled(printable(finding.seen), width, first=head)
        if is_coloured:
            text = f"{COLOURS[finding.status]}{text[:5]}{PLAIN}{text[5:]}"
        print(text)
        if finding.advice and finding.status in (WARN, FAIL):
            print(_filled(printable(finding.advice), width, first=" " * (len(head) - 3) + "-> "))
    counts = ((status, sum(one.status == status for one in findings)) for status in (FAIL, WARN, OK, SKIP))
    print()
    print(", ".join(f"{count} {status}" for status, count in counts))


def _filled(text: str, width: int, *, first: str = "") -> str:
    """Lines of at most `width`, those after the first below its text; paths and commands stay whole."""
    return textwrap.fill(
        text,
        width,
        initial_indent=first,
        subsequent_indent=" " * len(first),
        break_on_hyphens=False,
        break_long_words=False,
    )
