"""systemd as the engine's owner, booted in a root file system of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

from bench.restarts.contenders import Contender, children_of
from bench.restarts.ground import CannotMeasure
from tests.system.ground.nspawn import NEEDS, Guest

SEEN_AT: Final = "/bench"
"""Where the guest sees the folder with the engine and the contender's own."""
UNIT: Final = "/etc/systemd/system/engine.service"


class Systemd(Contender):
    """systemd. Its unit asks for the next start without a pause, as often as need be."""

    name = "systemd"

    def configure(self) -> None:
        """A unit; the whole tree is ended at a death, as is its default.

        :raises CannotMeasure: no guest can be booted here
        """
        missing = [program for program in NEEDS if shutil.which(program) is None]
        if os.geteuid() != 0:
            missing.append("root")
        if missing:
            raise CannotMeasure(f"systemd is booted in a guest, which needs {' and '.join(missing)}.")
        self.environment["BENCH_STAMPS"] = f"{SEEN_AT}/{self.folder.name}/stamps"
        variables = "".join(f"Environment={name}={value}\n" for name, value in self.environment.items())
        self.files[UNIT] = (
            "[Unit]\nStartLimitIntervalSec=0\n[Service]\nType=simple\n"
            f"ExecStart={SEEN_AT}/{self.ground.engine.name} serve\n"
            f"Restart=always\nRestartSec=0\nStandardOutput=null\nStandardError=null\n{variables}"
        )
        self.command = ["systemctl", "start", "engine"]
        self.guest: Guest | None = None

    def start(self) -> None:
        """Boot the guest (under a second, the first time half a minute) and start the unit.

        :raises CannotMeasure: that does not work here
        """
        try:
            self.guest = Guest(binds={SEEN_AT: self.ground.folder})
            self.version = self.guest.said("systemctl", "--version").split()[1]
            self.guest.write(UNIT, self.files[UNIT])
            self.guest.run("systemctl", "daemon-reload")
            self.guest.run(*self.command)
            self.wait_for("first")
        except (OSError, subprocess.SubprocessError, pytest.fail.Exception) as error:
            raise CannotMeasure(f"systemd in a guest: {error}") from error

    def engine_pid(self) -> int:
        """Our number of the engine: found among the children of the guest's PID 1, by the guest's number of it."""
        assert self.guest is not None, "the guest has not been booted"
        pid = super().engine_pid()
        for child in children_of(self.guest.pid):
            if _numbers_of(child)[-1:] == [pid]:
                return child
        raise ProcessLookupError(f"the guest has no child {pid}")

    def own_pids(self) -> list[int]:
        """The guest's PID 1; the journal and others beside it are not counted."""
        assert self.guest is not None, "the guest has not been booted"
        return [self.guest.pid]

    def end(self) -> None:
        """End the guest."""
        if self.guest is not None:
            self.guest.off()
        super().end()


def _numbers_of(pid: int) -> list[int]:
    """The numbers of a process in each of its PID namespaces, ours first; none when it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return []
    (line,) = (line for line in status.splitlines() if line.startswith("NSpid:"))
    return [int(word) for word in line.split()[1:]]
