"""The kinds of values that settings have: what is allowed, how a text is read, how a value is shown.

For every value that a kind reads, `read(show(value)) == value`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from arasul_supervisor.settings import values
from arasul_supervisor.settings.bind import parse_engine_bind, parse_host, parse_port
from arasul_supervisor.settings.model_names import parse_aliases, parse_model_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """One kind of value; `read` raises ValueError for a text that is not of it.

    `example` is for settings that have no default to show as one.
    """

    allowed: str
    read: Callable[[str], T]
    show: Callable[[T], str] = str
    example: str = ""


def whole(minimum: int, maximum: int) -> Kind[int]:
    """A whole number within bounds."""
    allowed = f"a whole number from {minimum} to {maximum}"
    return Kind(allowed, lambda text: values.parse_whole(text, minimum, maximum))


def duration(minimum_s: float, maximum_s: float = values.LONGEST_S) -> Kind[float]:
    """Seconds as a float, from `90`, `90s`, `5m`, `1h30m` or `500ms`."""

    def read(text: str) -> float:
        return values.within(values.parse_duration_s(text), minimum_s, maximum_s)

    bounds = f"from {_seconds(minimum_s)} to {_seconds(maximum_s)}"
    return Kind(f"seconds or a duration such as 5m, 1h30m or 500ms, {bounds}", read, _seconds)


def one_of(*choices: str) -> Kind[str]:
    """One word of a few, in any case."""

    def read(text: str) -> str:
        if text.lower() not in choices:
            raise ValueError
        return text.lower()

    return Kind(f"one of {', '.join(choices)}", read)


def _seconds(seconds: float) -> str:
    return f"{seconds:.15g}s"


def _whole_seconds(seconds: int) -> str:
    return f"{seconds}s"


def _size(size_bytes: int) -> str:
    if size_bytes == values.NO_LIMIT_BYTES:
        return "0"
    shift = next(shift for shift in (30, 20, 10, 0) if size_bytes % (1 << shift) == 0)
    return f"{size_bytes >> shift}{_SIZE_UNITS[shift]}"


def _switch(is_on: bool) -> str:
    return "on" if is_on else "off"


def _pairs(aliases: Mapping[str, str]) -> str:
    return ",".join(f"{name}={tag}" for name, tag in aliases.items())


_SIZE_UNITS: Final = {30: "GiB", 20: "MiB", 10: "KiB", 0: ""}

SWITCH: Final = Kind("on or off, yes or no, true or false, 1 or 0", values.parse_switch, _switch)
SIZE: Final = Kind("a size of at least 1KiB, or 0 for no limit", values.parse_size_bytes, _size)
KEEP_ALIVE: Final = Kind(
    "whole seconds or a duration; 0 unloads at once, a negative value keeps for ever",
    values.parse_keep_alive_s,
    _whole_seconds,
)
FRACTION: Final = Kind("a number above 0 and at most 1", values.parse_fraction)
GPU_LAYERS: Final = Kind(
    "a number of layers, 0 for none, -1 for all that fit", values.parse_gpu_layers, example="33"
)
MODEL: Final = Kind(
    "at most 255 characters of the form [host[:port]/][namespace/]model[:tag]", parse_model_name
)
ALIASES: Final = Kind(
    "pairs name=tag with commas between them",
    parse_aliases,
    _pairs,
    example="small=qwen3:0.6b,big=qwen3:14b",
)
ENGINE_BIND: Final = Kind("an address, host:port, :port, [IPv6]:port or http://host:port", parse_engine_bind)
HOST: Final = Kind("an address or a host name without a port", parse_host)
PORT: Final = Kind("a port from 1 to 65535, other than 11435", parse_port)
ENGINE_ORIGINS: Final = Kind(
    "a list of origins with commas between them, each with a scheme or one '*'",
    values.parse_engine_origins,
)
BROWSER_ORIGINS: Final = Kind(
    "a list of origins scheme://host[:port] with commas between them, or '*'",
    values.parse_browser_origins,
    ",".join,
    example="http://localhost:3000,https://dash.example.com",
)
PROGRAM: Final = Kind("the absolute path of a program", values.parse_program, example="/usr/local/bin/ollama")
FILE: Final = Kind("the absolute path of a file", values.parse_file, example="/var/log/ollama.log")
FOLDER: Final = Kind(
    "the absolute path of a folder", values.parse_folder, example="/var/lib/arasul-supervisor"
)
EXISTING_FOLDER: Final = Kind("the absolute path of a folder that is there", values.parse_existing_folder)
