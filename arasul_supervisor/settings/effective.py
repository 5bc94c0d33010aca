"""`Settings`: every effective value, parsed, with its unit in the name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from arasul_supervisor.errors import ArasulError
from arasul_supervisor.settings.bind import is_loopback, netloc, reachable_host

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


class SettingsError(ArasulError):
    """Some settings are wrong.

    `problems` holds one sentence for each wrong variable: the value seen, what is allowed, an example.
    """

    code: ClassVar[str] = "bad_setting"
    exit_code: ClassVar[int] = 2

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        count = "One setting is" if len(self.problems) == 1 else f"{len(self.problems)} settings are"
        super().__init__("\n- ".join((f"{count} wrong:", *self.problems)))


@dataclass(frozen=True, slots=True)
class Settings:
    """What the daemon was told, or falls back to. The table of variables is in fields.py."""

    default_model: str
    context_length: int
    gpu_layers: int | None  # None: all that fit
    keep_alive_s: int  # 0: unload at once, negative: keep for ever
    startup_timeout_s: float
    engine_host: str  # without brackets
    engine_port: int
    origins: str
    gpu_memory_fraction: float

    host: str  # without brackets
    port: int
    allowed_origins: tuple[str, ...]
    engine_binary: Path | None  # None: none was found
    log_file: Path
    log_max_bytes: int
    log_keep: int
    log_format: str
    log_level: Literal["debug", "info", "warning", "error"]
    stop_timeout_s: float
    stable_s: float
    backoff_base_s: float
    backoff_max_s: float
    backoff_reset_s: float
    start_retries: int
    on_give_up: str
    health_grace_s: float
    state_dir: Path
    aliases: Mapping[str, str]
    pulls: int
    pull_stall_s: float
    heal: str
    stuck_s: float
    silent_s: float
    load_stuck_s: float
    low_memory_s: float
    probe: bool
    restore: bool
    gpu: str
    jtop: bool
    sysroot: Path

    origin_of: Mapping[str, str]  # variable -> 'environment', 'default' or 'derived: <why>'

    @property
    def engine_netloc(self) -> str:
        """The engine's bind as `host:port`, an IPv6 address in brackets."""
        return netloc(self.engine_host, self.engine_port)

    @property
    def engine_url(self) -> str:
        """Where the daemon itself reaches the engine: over loopback when it is bound to a wildcard."""
        return f"http://{netloc(reachable_host(self.engine_host), self.engine_port)}"

    @property
    def url(self) -> str:
        """Where this box reaches the management port."""
        return f"http://{netloc(reachable_host(self.host), self.port)}"

    @property
    def is_loopback_bind(self) -> bool:
        """Whether the management port is out of reach for other machines."""
        return is_loopback(self.host)
