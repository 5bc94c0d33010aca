"""Through whose eyes is looked: the engine's, where its process may be read, else those of who asks."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from arasul_supervisor.telemetry.files import read_text

if TYPE_CHECKING:
    from collections.abc import Mapping

PROC: Final = Path("/proc")
_MAY_READ_ALL: Final = 1 << 1  # CAP_DAC_OVERRIDE, linux/capability.h


@dataclass(frozen=True, slots=True)
class Person:
    """Who opens devices: the numbers that the kernel compares."""

    uid: int
    gid: int
    gids: frozenset[int]
    is_almighty: bool  # modes do not hold it back


@dataclass(frozen=True, slots=True)
class Viewpoint:
    """Whose environment and rights count. `pid` None: not the engine's, and `sentence` says why."""

    pid: int | None
    person: Person
    environ: Mapping[str, str] = field(repr=False)  # may hold passwords of proxies
    has_engine_environ: bool
    program: Path | None
    sentence: str


def own_viewpoint(environ: Mapping[str, str], *, because: str, proc: Path = PROC) -> Viewpoint:
    """That of this command."""
    person = _person(read_text(proc / "self/status") or "") or Person(
        os.geteuid(), os.getegid(), frozenset(os.getgroups()), os.geteuid() == 0
    )
    sentence = f"{because} What counts below is the environment and the user of this shell."
    return Viewpoint(None, person, environ, has_engine_environ=False, program=None, sentence=sentence)


def engine_viewpoint(
    pid: int, *, marker: str, environ: Mapping[str, str], command: str = "", proc: Path = PROC
) -> Viewpoint:
    """That of the engine's process.

    A daemon in another pid namespace tells a pid that means another process here: the engine is known by its marker,
    or, where its environment may not be read, by its program's name.

    :param marker: the variable that every process of the engine carries
    :param environ: what counts instead where the engine's own may not be read
    :param command: the engine's program as the daemon tells it
    """
    folder = proc / str(pid)
    person = _person(read_text(folder / "status") or "")
    if person is None:
        because = f"The engine's process {pid} is not in this /proc; run this where the daemon runs."
        return own_viewpoint(environ, because=because, proc=proc)
    block = read_text(folder / "environ")
    of_engine = _variables(block) if block else None
    argument = (read_text(folder / "cmdline") or "").split("\0")[0]
    is_engine = marker in of_engine if of_engine else bool(command) and argument == command
    if not is_engine:
        because = (
            f"Process {pid} is not the engine here: the daemon runs in another pid namespace, such as a container; "
            "run this inside it (docker exec)."
        )
        return own_viewpoint(environ, because=because, proc=proc)
    sentence = f"The engine's process {pid} was looked at, with its user and environment."
    if of_engine is None:
        sentence = (
            f"The engine's process {pid} was looked at with its user (uid {person.uid}); its environment may be read "
            "by that user and root only, so that of this shell was read instead."
        )
    return Viewpoint(
        pid=pid,
        person=person,
        environ=environ if of_engine is None else of_engine,
        has_engine_environ=of_engine is not None,
        program=_program(folder),
        sentence=sentence,
    )


def _variables(block: str) -> dict[str, str]:
    """NUL-separated `NAME=value`."""
    pairs = (entry.partition("=") for entry in block.split("\0") if "=" in entry)
    return {name: value for name, _, value in pairs}


def _person(status: str) -> Person | None:
    """Lines of `/proc/PID/status`, real effective saved file-system: `Uid:	998	998	998	998`, `Groups:	44 110 `."""
    fields = {name: rest.split() for name, _, rest in (line.partition(":") for line in status.splitlines())}
    try:
        uid, gid = int(fields["Uid"][1]), int(fields["Gid"][1])
        groups = frozenset(int(number) for number in fields.get("Groups", ()))
        capabilities = int(fields.get("CapEff", ["0"])[0], 16)
    except (KeyError, IndexError, ValueError):
        return None
    return Person(uid, gid, groups | {gid}, is_almighty=bool(capabilities & _MAY_READ_ALL))


def _program(folder: Path) -> Path | None:
    try:
        return Path(os.readlink(folder / "exe").removesuffix(" (deleted)"))
    except OSError:
        return None
