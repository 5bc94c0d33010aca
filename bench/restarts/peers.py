"""What a person would use in our place, each configured for the quickest restart that its manual allows."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from bench.packages import CannotFetch, debian_program, python_program, why_not
from bench.restarts.contenders import Contender
from bench.restarts.ground import CannotMeasure

if TYPE_CHECKING:
    from pathlib import Path

    from bench.packages import Program


class Runit(Contender):
    """runsv of runit. Its `run` is the engine itself: no shell stands between."""

    name = "runit"

    def configure(self) -> None:
        """A service folder."""
        program = _debian("runsv")
        self.version, self.command = program.version, program.command("service")
        _make_service(self.folder, self.ground.engine)


class S6(Contender):
    """s6-supervise of s6, the engine itself as `run`, told by a descriptor that the engine is ready.

    Its pause of a second counts from readiness, so that it is over by the time of the next death.
    """

    name = "s6"

    def configure(self) -> None:
        """A service folder, and with it the number of the descriptor."""
        program = _debian("s6-supervise")
        self.version, self.command = program.version, program.command("service")
        self.environment |= program.environment
        self.tell_readiness()
        _make_service(self.folder, self.ground.engine)

    def tell_readiness(self) -> None:
        """Readiness by descriptor 3."""
        self.environment["BENCH_NOTIFY_FD"] = "3"
        self.files["service/notification-fd"] = "3\n"


class S6WithoutReadiness(S6):
    """The same over a program that knows nothing of s6, as Ollama."""

    name = "s6 without readiness"
    takes_ms = 2000

    def tell_readiness(self) -> None:
        """Nothing is told."""


class Supervisord(Contender):
    """supervisord. It looks at its programs once a second."""

    name = "supervisord"
    takes_ms = 4000

    def configure(self) -> None:
        """Any exit is started again, none counts as a failed start, and a stop is for the whole group."""
        program = _python("supervisor", "supervisord")
        self.version, self.command = program.version, program.command("-c", "supervisord.conf")
        self.files["supervisord.conf"] = (
            "[supervisord]\nnodaemon=true\nlogfile=/dev/null\nlogfile_maxbytes=0\n"
            "pidfile=%(here)s/supervisord.pid\n\n"
            f"[program:engine]\ncommand={self.ground.engine} serve\nautorestart=true\nstartsecs=0\n"
            "startretries=1000000\nstopasgroup=true\nkillasgroup=true\n"
            "stdout_logfile=NONE\nstderr_logfile=NONE\n"
        )


class Circus(Contender):
    """circusd. It looks at its programs every five seconds, unless it is told otherwise."""

    name = "circus"
    takes_ms = 12000
    check_delay_s: ClassVar[float] = 5.0

    def configure(self) -> None:
        """Sockets in its folder, children stopped too."""
        program = _python("circus", "circusd")
        self.version, self.command = program.version, program.command("circus.ini")
        self.files["circus.ini"] = (
            f"[circus]\ncheck_delay = {self.check_delay_s:g}\nwarmup_delay = 0\n"
            f"endpoint = ipc://{self.folder}/endpoint\npubsub_endpoint = ipc://{self.folder}/pubsub\n\n"
            f"[watcher:engine]\ncmd = {self.ground.engine} serve\ncopy_env = True\nwarmup_delay = 0\n"
            "max_retry = -1\nstop_children = True\ngraceful_timeout = 2\n"
        )


class BusyCircus(Circus):
    """The same, told to look all the time: its manual sets no least pace. What that costs, the footprint shows."""

    name = "circus at 50 looks a second"
    takes_ms = 100
    check_delay_s = 0.02


def _make_service(folder: Path, engine: Path) -> None:
    (folder / "service").mkdir()
    (folder / "service" / "run").symlink_to(engine)


def _debian(name: str) -> Program:
    program = debian_program(name)
    if program is None:
        raise CannotMeasure(why_not(name))
    return program


def _python(package: str, name: str) -> Program:
    try:
        return python_program(package, name)
    except CannotFetch as error:
        raise CannotMeasure(str(error)) from error
