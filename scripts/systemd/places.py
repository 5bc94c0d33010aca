"""Where the service lies on a box."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
UNIT = "arasul-supervisor.service"
OLLAMA_UNIT = "ollama.service"

UNIT_FILE = Path("/etc/systemd/system", UNIT)
DROP_IN_FOLDER = Path(f"{UNIT_FILE}.d")
DROP_IN = DROP_IN_FOLDER / "10-install.conf"
ENV_FILE = Path("/etc/default/arasul-supervisor")
STATE_DIR = Path("/var/lib/arasul-supervisor")
LOG_FOLDER = Path("/var/log/arasul-supervisor")
LOG_FILE = LOG_FOLDER / "ollama.log"
LOG_LINK = Path("/var/log/ollama.log")
COMMAND_LINK = Path("/usr/local/bin/arasul-supervisor")
NVIDIA_MODPROBE = Path("/usr/bin/nvidia-modprobe")

OWN_USER = "arasul-supervisor"
"""Not `arasul`: that may well be the name of a person's login on such a box."""
ENGINE_USER = "ollama"
"""The user that Ollama's installer makes, and that owns the models then."""
GPU_GROUPS = ("video", "render")
HOMES = (Path("/home"), Path("/root"), Path("/run/user"))
"""What ProtectHome= hides."""
DEFAULT_PREFIX = Path("/opt/arasul-supervisor")


@dataclass(frozen=True)
class Prefix:
    """The folder of the program: a virtual environment for each install, and a link to the one in force."""

    folder: Path

    @property
    def venvs(self) -> Path:
        """The virtual environments."""
        return self.folder / "venvs"

    @property
    def current(self) -> Path:
        """The link to the one in force."""
        return self.folder / "current"

    @property
    def command(self) -> Path:
        """The program that the unit starts."""
        return self.current / "bin" / "arasul-supervisor"

    @property
    def record(self) -> Path:
        """What the install changed beyond its own files."""
        return self.folder / "installation.json"


def is_below(path: Path, folders: tuple[Path, ...]) -> bool:
    """Whether the path is one of the folders or lies in one."""
    return any(path == folder or folder in path.parents for folder in folders)
