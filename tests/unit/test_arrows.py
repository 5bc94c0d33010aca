"""The rooms know each other in one direction only, and what must start quickly drags nothing heavy along.

Guards DESIGN §1 (arrows) and CONTRACT §3 (order of a launch: heavy imports come after the spawn) and §5 (the health
command is standard library only).
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = "arasul_supervisor"
FOLDER = Path(__file__).parents[2] / PACKAGE

GROUND = frozenset(
    {
        "_compat",
        "bounded",
        "clock",
        "errors",
        "event_log",
        "held_back",
        "line_child",
        "offload",
        "settings",
        "whole_file",
    }
)
STORE = frozenset({"model_store"})  # Ollama's folder of models: two of the four read it
FOUR = frozenset({"logs", "ollama", "supervision", "telemetry"})
COMPOSITION = frozenset(
    {
        "app",
        "daemon",
        "engine_limits",
        "first_start",
        "launch_plan",
        "management_port",
        "process_ground",
        "services",
    }
)
MAY_KNOW = {
    **dict.fromkeys(GROUND, GROUND),
    **dict.fromkeys(STORE, GROUND),
    **dict.fromkeys(FOUR, GROUND | STORE),  # and itself; the four do not know each other
    "healing": GROUND | STORE | FOUR,
    "api": GROUND | STORE | FOUR | {"healing"},
    **dict.fromkeys(COMPOSITION, GROUND | STORE | FOUR | COMPOSITION | {"healing", "api"}),
    "cli": GROUND | STORE | FOUR | {"app", "process_ground"},
    "__main__": frozenset({"cli"}),
    "__init__": frozenset[str](),
}
HEAVY = frozenset(
    {"aiohttp", "asyncinotify", "jtop", "msgspec", "psutil", "pynvml", "rich", "structlog", f"{PACKAGE}.api"}
)
BEFORE_THE_SPAWN = (
    *("_compat", "clock", "errors", "bounded", "event_log", "settings", "whole_file", "supervision"),
    *("ollama.aliases", "ollama.environment", "launch_plan", "management_port", "app"),
)

IMPORT_EACH_ALONE = """
import os, sys
failed = []
names = sys.argv[1:]
while names:
    batch, names = names[:8], names[8:]
    pids = {}
    for name in batch:
        pid = os.fork()
        if pid == 0:
            try:
                __import__(name)
            except BaseException as error:
                print(f"{name}: {error!r}", flush=True)
                os._exit(1)
            os._exit(0)
        pids[pid] = name
    for pid, name in pids.items():
        if os.waitpid(pid, 0)[1] != 0:
            failed.append(name)
sys.exit(bool(failed))
"""
IMPORT_ALL_AND_TELL = """
import sys
for name in sys.argv[1:]:
    __import__(name)
print(*sys.modules)
"""
RUN_AND_TELL = """
import sys
from arasul_supervisor.cli import main
try:
    main(sys.argv[1:])
except SystemExit:
    pass
print("loaded:", *sys.modules)
"""


def modules() -> list[str]:
    """Every module of the package, by its dotted name."""
    paths = sorted(path.relative_to(FOLDER.parent).with_suffix("") for path in FOLDER.rglob("*.py"))
    return [".".join(path.parts).removesuffix(".__init__") for path in paths]


@pytest.mark.parametrize("module", modules())
def test_a_module_knows_only_the_rooms_below_its_own(module: str) -> None:
    room = _room(module)

    known = {_room(name) for name in _imports(module)} - {room, "__init__"}

    assert known <= MAY_KNOW[room], f"{module} imports {sorted(known - MAY_KNOW[room])}"


def test_what_lines_mean_is_told_without_knowing_where_they_come_from() -> None:
    meaning = f"{PACKAGE}.logs.meaning"

    known = {name for module in modules() if module.startswith(meaning) for name in _imports(module)}

    assert {name for name in known if not name.startswith(meaning)} <= {PACKAGE, f"{PACKAGE}.logs"}


def test_no_module_needs_itself() -> None:
    graph = {module: _imports(module, at_run_time_only=True) - {module} for module in modules()}

    order = list(TopologicalSorter(graph).static_order())  # raises CycleError with the circle

    assert set(order) >= set(modules())


@pytest.mark.timeout(60)  # some 200 interpreters
def test_each_module_imports_alone_in_a_fresh_interpreter() -> None:
    done = _python(IMPORT_EACH_ALONE, *modules())

    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_the_command_line_brings_at_most_what_draws_tables() -> None:
    commands = [module for module in modules() if _room(module) == "cli"]

    loaded = _loaded_by(*commands)

    assert loaded & HEAVY <= {"rich"}


@pytest.mark.parametrize("command", ["health", "status", "stop", "logs", "incidents", "quarantine"])
def test_a_client_command_that_fails_to_connect_has_loaded_nothing_but_the_standard_library(
    command: str,
) -> None:
    done = _python(RUN_AND_TELL, command, "--url", "http://127.0.0.1:1")

    assert set(done.stdout.splitlines()[-1].split()) & HEAVY == set()
    assert "loaded:" in done.stdout


def test_nothing_on_the_way_to_the_first_spawn_is_heavy() -> None:
    on_the_way = [module for module in modules() if _is_on_the_way(module)]

    loaded = _loaded_by(*on_the_way)

    assert loaded & HEAVY == set()


def _is_on_the_way(module: str) -> bool:
    return any(f"{module}.".startswith(f"{PACKAGE}.{name}.") for name in BEFORE_THE_SPAWN)


def _room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def _imports(module: str, *, at_run_time_only: bool = False) -> set[str]:
    """Modules of the package that are named in import statements; those for types count unless asked otherwise."""
    tree = ast.parse(_file(module).read_text(encoding="utf-8"))
    nodes = tree.body if at_run_time_only else list(ast.walk(tree))
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            base = _base(module, node)
            found |= {
                name if _exists(name) else base for name in (f"{base}.{alias.name}" for alias in node.names)
            }
    return {name for name in found if name.split(".")[0] == PACKAGE}


def _base(module: str, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    package = module.split(".") if _file(module).name == "__init__.py" else module.split(".")[:-1]
    kept = package[: len(package) - node.level + 1]
    return ".".join([*kept, *([node.module] if node.module else [])])


def _file(module: str) -> Path:
    path = FOLDER.parent.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _exists(module: str) -> bool:
    return module.split(".")[0] == PACKAGE and _file(module).is_file()


def _loaded_by(*names: str) -> set[str]:
    done = _python(IMPORT_ALL_AND_TELL, *names)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def _python(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    command = [sys.executable, "-W", "error", "-c", program, *arguments]
    return subprocess.run(
        command, cwd=FOLDER.parent, env=environment, capture_output=True, text=True, timeout=50, check=False
    )
