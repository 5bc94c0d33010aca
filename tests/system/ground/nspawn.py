"""A booted Debian with systemd as PID 1, in a root file system, a network and process numbers of its own.

What a guest writes lies in an overlay in memory and is gone with it; the base stays as it is.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from configparser import ConfigParser
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.engine.daemon import REPOSITORY
from tests.engine.processes import wait_until
from tests.system.ground.base import base_folder, need

if TYPE_CHECKING:
    from collections.abc import Mapping

NEEDS: Final = ("systemd-nspawn", "nsenter", "mmdebstrap", "zstd")
PROJECT: Final = "/project"
"""Where a guest sees the repository, read-only."""
WHEELS: Final = "/wheels"
_GUEST_PYTHON: Final = "3.11"
_BOOT_LIMIT_S: Final = 60.0
_OFF_LIMIT_S: Final = 15.0
_CONTROLLERS: Final = ("memory", "pids", "devices")
_CGROUPS: Final = Path("/sys/fs/cgroup")
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Guest:
    """A guest from its boot to its end."""

    def __init__(self, *, binds: Mapping[str, Path]) -> None:
        """Boot it.

        :param binds: paths in the guest, and what of the host is seen there, read-only
        """
        self.name = f"guest-{os.getpid()}-{id(self):x}"
        self._log = Path(tempfile.mkdtemp(prefix="guest-")) / "console"
        self._cgroups = [_CGROUPS / each / self.name for each in _CONTROLLERS if (_CGROUPS / each).is_dir()]
        options = [f"--bind-ro={source}:{target}" for target, source in binds.items()]
        command = [
            "systemd-nspawn", "--quiet", f"--directory={base_folder()}", f"--machine={self.name}", "--volatile=overlay",
            "--register=no", "--keep-unit", "--private-network", "--boot", "--console=pipe", *options,
        ]  # fmt: skip
        # Groups of its own: only then its systemd has limits, devices and an OOM killer to work with.
        enter = "".join(f"echo $$ > {group}/cgroup.procs; " for group in self._cgroups)
        for group in self._cgroups:
            group.mkdir()
        with self._log.open("wb") as log:
            self._nspawn = subprocess.Popen(
                ["sh", "-c", f'{enter}exec "$@"', "sh", *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            wait_until(self._is_up, limit_s=_BOOT_LIMIT_S, what=f"the guest is up ({self._console()})")
            for group in self._cgroups:
                self.run("mount", "-o", "remount,rw,bind", str(group.parent))
            self.run("systemctl", "daemon-reexec")
        except BaseException:
            self.off()
            raise

    @property
    def pid(self) -> int:
        """The host's number of the guest's PID 1."""
        children = Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children").read_text().split()
        return int(children[0])

    def run(
        self, *command: str, check: bool = True, limit_s: float = 60, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the guest as root; stdout and stderr come as one text."""
        ended = subprocess.run(
            ["nsenter", "--target", str(self.pid), "--all", "--", "env", "-i", f"PATH={_PATH}", "LANG=C.UTF-8",
             "HOME=/root", *command],
            input=stdin or "", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=limit_s,
        )  # fmt: skip
        if check and ended.returncode != 0:
            pytest.fail(f"in the guest, {' '.join(command)}: {ended.returncode}\n{ended.stdout}")
        return ended

    def said(self, *command: str, limit_s: float = 60) -> str:
        """What a command that succeeds prints."""
        return self.run(*command, limit_s=limit_s).stdout.rstrip("\n")

    def write(self, path: str, text: str) -> None:
        """Write a file in the guest."""
        self.run("sh", "-c", 'mkdir -p "${1%/*}" && cat > "$1"', "sh", path, stdin=text)

    def has(self, path: str) -> bool:
        """Whether there is anything at that path."""
        return self.run("sh", "-c", 'test -e "$1" || test -h "$1"', "sh", path, check=False).returncode == 0

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        """Properties of a unit."""
        shown = self.said("systemctl", "show", unit, f"--property={','.join(properties)}")
        return dict(line.split("=", 1) for line in shown.splitlines())

    def journal(self, unit: str) -> str:
        """What a unit has said so far."""
        return self.said("journalctl", "--unit", unit, "--output=cat", "--no-pager")

    def in_cgroup_of(self, unit: str) -> list[int]:
        """The guest's numbers of the processes in a unit's group."""
        group = self.show(unit, "ControlGroup")["ControlGroup"]
        if not group:
            return []
        tree = _CGROUPS / "systemd" if (_CGROUPS / "systemd").is_dir() else _CGROUPS  # cgroup v1, v2
        listed = self.run("cat", f"{tree}{group}/cgroup.procs", check=False)
        return [int(word) for word in listed.stdout.split()] if listed.returncode == 0 else []

    def off(self) -> None:
        """End the guest, whatever it does, and take its groups away."""
        try:
            if self._nspawn.poll() is None:
                os.kill(self.pid, signal.SIGKILL)
        except (OSError, IndexError):
            self._nspawn.kill()
        self._nspawn.wait(_OFF_LIMIT_S)
        for group in self._cgroups:
            _remove_groups(group)
        self._log.unlink(missing_ok=True)
        self._log.parent.rmdir()

    def _is_up(self) -> bool:
        if self._nspawn.poll() is not None:
            pytest.fail(f"the guest did not boot: {self._console()}")
        try:
            state = self.run("systemctl", "is-system-running", check=False).stdout
        except (OSError, IndexError):
            return False
        return state.strip() in ("running", "degraded")

    def _console(self) -> str:
        return self._log.read_text(errors="replace")[-2000:]


def need_systemd() -> None:
    """Skip, loudly, where no guest can be booted."""
    need("the daemon under systemd", *NEEDS)


def wheels() -> Path:
    """What the package needs, as wheels for the guest's Python: it has no network to fetch them by."""
    settings = ConfigParser()
    settings.read(REPOSITORY / "setup.cfg")
    wanted = [*settings["options"]["install_requires"].split("\n"), "setuptools>=64", "wheel"]
    wanted = [requirement for requirement in wanted if requirement]
    key = sha256(repr((_GUEST_PYTHON, wanted)).encode()).hexdigest()[:12]
    folder = base_folder().parent / f"wheels-{key}"
    if not folder.exists():
        part = Path(tempfile.mkdtemp(prefix="wheels-", dir=folder.parent))
        subprocess.run(
            [REPOSITORY / ".venv/bin/python", "-m", "pip", "download", "--quiet", "--dest", part, "--only-binary=:all:",
             "--implementation=cp", f"--python-version={_GUEST_PYTHON}", *wanted],
            check=True, timeout=170,
        )  # fmt: skip
        part.chmod(0o755)
        part.rename(folder)
    return folder


def _remove_groups(group: Path) -> None:
    """The group and all below it; the kernel takes a moment to let go of the dead."""

    def is_removed() -> bool:
        try:
            for folder, _, _ in os.walk(group, topdown=False):
                os.rmdir(folder)
        except OSError:
            return False
        return True

    wait_until(is_removed, limit_s=5, what=f"{group} is empty")
