"""Those who own the engine, side by side: what they have in common, arasul-supervisor, and the floor.

`python -m bench.restarts.configurations` shows how each is configured.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from bench.restarts.ground import CannotMeasure, Ground, prepared_ground
from bench.restarts.stamps import Stamp, Stamps
from tests.engine.daemon import DaemonFactory
from tests.engine.fake import FakeEngine
from tests.engine.processes import kill_all_with, pick_free_port, pids_with

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bench.figures import Outcome
    from bench.restarts.stamps import Kind

    Maker = Callable[[Ground, str], "Contender"]
    """Makes one on that ground, in a folder of that name."""

MARK: Final = "BENCH_MARK"
"""Variable that everything carries which a contender starts, and most of them themselves."""
END_LIMIT_S: Final = 10.0
SHOWN_BY: Final = "`python -m bench.restarts.configurations` shows how each is configured"
RESPAWNER: Final = Path(__file__).with_name("respawner.py")


class Contender:
    """One owner of an engine, in a folder of its own.

    `files` are written into the folder before the start, `command` is run in it. `version` of its package.
    """

    name: ClassVar[str]
    takes_ms: ClassVar[float] = 50
    """A restart takes it less than this; far more for those that wait a second by design."""

    def __init__(self, ground: Ground, name: str, *, n_helpers: int = 0) -> None:
        """Make its folder, of that name.

        :param n_helpers: of the engine: two in its group, a third in a session of its own
        :raises CannotMeasure: it cannot be had on this machine
        """
        self.ground, self.folder = ground, ground.folder / name
        self.label = f"{self.name}, tree of {n_helpers + 1}" if n_helpers else self.name
        self.folder.mkdir()
        self.mark = f"{MARK}={self.folder}\0"
        self.environment = {
            "PATH": os.defpath,
            "LANG": "C.UTF-8",
            "HOME": str(self.folder),
            "OLLAMA_HOST": f"127.0.0.1:{pick_free_port()}",
            "BENCH_STAMPS": str(self.folder / "stamps"),
            "BENCH_HELPERS": str(n_helpers),
            MARK: str(self.folder),
        }
        self.version = ""
        self.command: list[str] = []
        self.files: dict[str, str] = {}
        self.life: Stamp | None = None
        self.popen: subprocess.Popen[bytes] | None = None
        self.launched_at_ns = 0
        self.configure()
        self.stamps = Stamps(self.folder / "stamps")

    def configure(self) -> None:
        """Set `command`, `files`, `version`, and more of the environment."""
        raise NotImplementedError

    @property
    def configuration(self) -> str:
        """All of it as text: variables, command, files."""
        variables = "".join(f"{name}={value}\n" for name, value in self.environment.items())
        files = "".join(f"--- {name}\n{text}" for name, text in self.files.items())
        return f"=== {self.label} {self.version}\n{variables}$ {' '.join(self.command)}\n{files}"

    def start(self) -> None:
        """Start it, and return when it has done what it is started for.

        :raises CannotMeasure: it has not
        """
        for name, text in self.files.items():
            path = self.folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        with (self.folder / "said").open("wb") as said:
            self.launched_at_ns = time.monotonic_ns()
            self.popen = subprocess.Popen(
                self.command,
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
        try:
            self.wait_started()
        except TimeoutError as error:
            raise CannotMeasure(f"{self.name}: {error}. It said: {self.said()[-2000:]}") from error

    def wait_started(self) -> None:
        """Return when its engine is in its first instruction."""
        self.wait_for("first")

    def said(self) -> str:
        """What it has printed so far."""
        return (self.folder / "said").read_text(errors="replace")

    def wait_for(self, kind: Kind) -> Stamp:
        """The engine's next stamp of that kind."""
        self.life = self.stamps.wait_for(kind)
        return self.life

    def kill(self) -> int:
        """SIGKILL the engine; the instant right before it, by CLOCK_MONOTONIC."""
        self.life = self.stamps.newest("first") or self.life
        pid = self.engine_pid()
        at_ns = time.monotonic_ns()
        os.kill(pid, signal.SIGKILL)
        return at_ns

    def wait_restarted(self, killed_at_ns: int) -> float:
        """Milliseconds from the kill to the next engine's first instruction; waits for it."""
        return (self.wait_for("first").at_ns - killed_at_ns) / 1e6

    def engine_pid(self) -> int:
        """The process of the engine's newest life."""
        assert self.life is not None, f"{self.name} has not been started"
        return self.life.pid

    def own_pids(self) -> list[int]:
        """What it consists of, without the engine."""
        assert self.popen is not None, f"{self.name} has not been started"
        return [self.popen.pid]

    def end(self) -> None:
        """End it and all that it left."""
        if self.popen is not None:
            self.popen.terminate()
            try:
                self.popen.wait(END_LIMIT_S)
            except subprocess.TimeoutExpired:
                self.popen.kill()
                self.popen.wait()
        kill_all_with(self.mark)
        self.stamps.close()


@contextmanager
def running(makers: Sequence[Maker], outcome: Outcome) -> Iterator[list[Contender]]:
    """All of them, started, as far as this machine has them; the remarks say their versions, and which it lacks.

    None at all where the first cannot be had, who is compared with the others.
    """
    versions: list[str] = []
    with prepared_ground(outcome) as ground, ExitStack() as at_end:
        contenders: list[Contender] = []
        for number, make in enumerate(makers if ground else ()):
            assert ground is not None
            try:
                contender = make(ground, f"contender{number}")
                at_end.callback(contender.end)
                contender.start()
            except CannotMeasure as error:
                outcome.remarks.append(f"NOT MEASURED: {error}")
                if not contenders:
                    break
                continue
            contenders.append(contender)
            if contender.version:
                versions.append(f"{contender.name} {contender.version}")
        if versions:
            outcome.remarks.append(f"{', '.join(dict.fromkeys(versions))}; {SHOWN_BY}.")
        yield contenders


class Ours(Contender):
    """arasul-supervisor, over the engine in place of Ollama."""

    name = "arasul-supervisor"

    def configure(self) -> None:
        """No stable run is asked for, so that it starts again at once whatever the bench does."""
        prepared = DaemonFactory(self.folder, FakeEngine(self.folder)).prepare(
            engine=self.ground.engine,
            env={**self.environment, "ARASUL_STABLE_SECONDS": "0", "ARASUL_BACKOFF_RESET": "0"},
        )
        self.environment = {**prepared.environment, "PYTHONPATH": ""}
        self.command = [str(self.ground.python), "-m", "arasul_supervisor", "run"]
        self.port = prepared.port

    def own_pids(self) -> list[int]:
        """The daemon and its guardian: its only child that is started without our mark."""
        (daemon,) = super().own_pids()
        carriers = pids_with(self.mark)
        return [daemon, *(pid for pid in children_of(daemon) if pid not in carriers)]


class Floor(Contender):
    """What a respawn costs in Python at the least: see respawner.py."""

    name = "a bare respawner"

    def configure(self) -> None:
        """Nothing to set."""
        self.command = [str(self.ground.python), str(RESPAWNER), str(self.ground.engine), "serve"]


def children_of(pid: int) -> list[int]:
    """Its children now."""
    found = []
    for thread in Path(f"/proc/{pid}/task").iterdir():
        found += [int(word) for word in (thread / "children").read_text().split()]
    return found
