"""The daemon as a service of a guest, put there by the project's own install step."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Final

from tests.engine.daemon import REPOSITORY
from tests.engine.processes import wait_until
from tests.engine.store import install_model
from tests.system.ground.nspawn import PROJECT, WHEELS, Guest, wheels

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping
    from pathlib import Path

UNIT: Final = "arasul-supervisor.service"
ENV_FILE: Final = "/etc/default/arasul-supervisor"
DROP_IN: Final = f"/etc/systemd/system/{UNIT}.d/50-test.conf"
LOG: Final = "/var/log/arasul-supervisor/ollama.log"
MODELS: Final = "/models-of-the-test"
_INSTALL: Final = (
    "env",
    "PIP_NO_INDEX=1",
    f"PIP_FIND_LINKS={WHEELS}",
    "python3",
    f"{PROJECT}/scripts/install_systemd.py",
)


def binds_for(engine: Path, gguf: Path, store: Path) -> dict[str, Path]:
    """What the guest sees of the host: the project, wheels, Ollama as its installer lays it, a store with `tiny`.

    :param store: an empty folder; `MODELS` in the guest, to copy from
    """
    install_model(store, "tiny", gguf)
    libraries = (engine.parent.parent / "lib" / "ollama").resolve()
    binds = {
        PROJECT: REPOSITORY,
        WHEELS: wheels(),
        "/usr/local/bin/ollama": engine.resolve(),
        "/usr/local/lib/ollama": libraries,
        MODELS: store,
    }
    return binds


class Service:
    """The service of one guest."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest

    def install(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run the install step as `sudo make install-systemd ARGS=…` does."""
        return self.guest.run(*_INSTALL, *arguments, check=check, limit_s=120)

    def uninstall(self, *arguments: str) -> str:
        """Run the other one."""
        return self.guest.said(*_INSTALL, "--uninstall", *arguments, limit_s=60)

    def set_up(self, *, settings: Mapping[str, str] | None = None, unit: str = "") -> None:
        """Other settings and other lines of the `[Service]` section; in force from the next start."""
        lines = "".join(f"{name}={value}\n" for name, value in (settings or {}).items())
        self.guest.write(ENV_FILE, lines)
        self.guest.write(DROP_IN, f"[Service]\n{unit}\n")
        self.guest.run("systemctl", "daemon-reload")

    def start(self, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        """`systemctl restart`: comes back once the service is ready."""
        return self.guest.run("systemctl", "restart", UNIT, check=check, limit_s=60)

    def begin(self) -> None:
        """Have it started without waiting."""
        self.guest.run("systemctl", "restart", "--no-block", UNIT)

    def stop(self) -> float:
        """Stop it; the seconds that it took."""
        begun = time.monotonic()
        self.guest.run("systemctl", "stop", UNIT)
        return time.monotonic() - begun

    def show(self, name: str) -> str:
        """One property of the unit."""
        return self.guest.show(UNIT, name)[name]

    @property
    def pid(self) -> int:
        """The daemon's number in the guest."""
        return int(self.show("MainPID"))

    @property
    def status(self) -> str:
        """The sentence that `systemctl status` shows."""
        return self.show("StatusText")

    def processes(self) -> dict[int, str]:
        """All processes of the service, with their command lines."""
        listed = self.guest.said("ps", "-eo", "pid=,args=").splitlines()
        commands = {int(pid): command for pid, command in (line.split(None, 1) for line in listed)}
        return {pid: commands[pid] for pid in self.guest.in_cgroup_of(UNIT) if pid in commands}

    def curl(
        self, path: str, *, port: int = 11436, body: str | None = None
    ) -> Any:  # Any: looked into freely
        """The answer of one of the two APIs; None where none came."""
        sent = () if body is None else ("--data", body)
        url = f"http://127.0.0.1:{port}{path}"
        ended = self.guest.run("curl", "--silent", "--max-time", "30", *sent, url, check=False)
        return json.loads(ended.stdout) if ended.returncode == 0 else None

    def engine_pid(self) -> int | None:
        """The engine's number in the guest; None while there is none, or no API."""
        process = self.curl("/api/process")
        return process["pid"] if process else None

    def load_model(self) -> None:
        """Have the engine load `tiny`, so that it has a runner."""
        asked = {"model": "tiny", "prompt": "a", "stream": False, "options": {"num_predict": 4}}
        answer = self.curl("/api/generate", port=11434, body=json.dumps(asked))
        assert answer is not None and answer.get("done") is True, answer

    def wait_for_other_engine(self, former: int) -> int:
        """Wait until another engine answers; its number."""

        def is_other() -> bool:
            return (pid := self.engine_pid()) is not None and pid != former and self.is_answering()

        wait_until(is_other, limit_s=30, what="another engine answers")
        pid = self.engine_pid()
        assert pid is not None
        return pid

    def is_answering(self) -> bool:
        """Whether /readyz says so."""
        return self.answers(11436, "/readyz")

    def answers(self, port: int, path: str = "/") -> bool:
        """Whether a good answer comes from there."""
        url = f"http://127.0.0.1:{port}{path}"
        return (
            self.guest.run("curl", "--silent", "--fail", "--max-time", "5", url, check=False).returncode == 0
        )
