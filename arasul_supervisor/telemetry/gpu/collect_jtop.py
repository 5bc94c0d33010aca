"""The GPU of a Jetson as the service of jetson-stats sees it, which is root and may read what we may not.

jetson-stats is licensed under the AGPL, blocks, and changes the interpreter it is imported into: it is imported here
alone, in a process of its own. A lost connection never comes back in the same process (facts/gpu.md §6), so one
process is one connection.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from arasul_supervisor.telemetry.gpu.connection import Connection
from arasul_supervisor.telemetry.gpu.jtop_lines import sample_line
from arasul_supervisor.telemetry.gpu.nvml_codes import LIBRARY_NOT_FOUND, NO_PERMISSION, TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_INTERVAL_S: Final = (
    1.0  # between two looks of the service, unless another client of it asked for another before us
)
_STALE_AFTER_INTERVALS: Final = 3  # as the client itself waits
_UNEXPECTED: Final = -1


def connect(arguments: Sequence[str]) -> Connection:
    """Reach the service, and see its figures change once. Blocks for ever when the service is frozen.

    :param arguments: the folder that jetson-stats is installed in, empty when it is not; the path of its socket
    """
    folder, socket = arguments
    if not folder:
        return _failed(LIBRARY_NOT_FOUND, "jetson-stats is not installed: install arasul-supervisor[jetson].")
    sys.path.append(folder)
    try:
        jtop: Any = import_module("jtop")  # Any: untyped, and never a dependency
        client = _client(jtop, socket)
        figures = JtopFigures(client, version=jtop.__version__)
        client.attach(figures.hear)
        client.start()
        figures.wait_for_a_change(limit_s=figures.stale_after_s())
    except Exception as error:  # whatever goes wrong in foreign code is a reason to tell
        return _failed(*reason_of(error, socket))
    return Connection({"kind": "ready", "bindings": f"jetson-stats {jtop.__version__}"}, figures.sample)


class Unchanging(Exception):
    """The service answers, but what it says stays the same: its sampler is dead."""


class JtopFigures:
    """The newest figures of a client, which hears from the service in a thread of its own."""

    def __init__(self, client: Any, *, version: str, now: Callable[[], float] = time.monotonic) -> None:
        """Nothing is heard yet.

        :param client: a `jtop.jtop`, or what looks like one
        :param now: monotonic seconds
        """
        self._client, self._version, self._now = client, version, now
        self._uptime: object = None
        self._heard_mono = now()
        self._changes = 0
        self._has_changed = threading.Event()

    def hear(self, client: Any) -> None:
        """The client has new figures; in its thread. They are news only if the board's uptime has moved on."""
        uptime = client.uptime
        if uptime != self._uptime:
            self._uptime, self._heard_mono = uptime, self._now()
            self._changes += 1
        if self._changes > 1:  # the first may be left over from long ago
            self._has_changed.set()

    def wait_for_a_change(self, *, limit_s: float) -> None:
        """Until the figures have changed once.

        :raises Unchanging: they do not, within the limit
        """
        if not self._has_changed.wait(limit_s):
            self._client.ok(spin=True)  # raises what ended the client's thread
            raise Unchanging(self._stale_sentence())

    def stale_after_s(self) -> float:
        """So long after the last change figures are old: a few intervals of the service, which may be another's."""
        return float(_STALE_AFTER_INTERVALS * max(_INTERVAL_S, self._client.interval))

    def sample(self, now_mono: float) -> dict[str, object]:
        """One line. Figures whose uptime stands still are none."""
        try:
            is_ok = self._client.ok(spin=True)
        except Exception as error:  # it ended the client's thread, which cannot be started again
            return _refused(*reason_of(error, "the connection"))
        if not is_ok:
            return _refused(_UNEXPECTED, "The client of jetson-stats has ended.")
        if now_mono - self._heard_mono > self.stale_after_s():
            return _refused(TIMEOUT, self._stale_sentence())
        return sample_line(json.loads(self._client.json()), version=self._version)

    def _stale_sentence(self) -> str:
        return f"The service of jetson-stats says nothing new for {self.stale_after_s():g} s: restart jtop.service."


def _client(jtop: Any, socket: str) -> Any:
    """A client that talks to the service and does nothing else.

    In 4.3 and 7.2 alike the path is read when the client is made. Without the override a thread of it runs
    `vulkaninfo`, `dpkg` and `nvcc` and loads cuDNN and TensorRT, only to tell their versions.
    """
    service: Any = import_module("jtop.service")
    service.JTOP_PIPE = socket

    class QuietClient(jtop.jtop):  # type: ignore[misc]  # a class of an untyped package
        def _load_jetson_libraries(self) -> None:
            return

    return QuietClient(interval=_INTERVAL_S)


def reason_of(error: Exception, where: str) -> tuple[int, str]:
    """Code and sentence of what went wrong. The text of the package for a missing permission is an advice to reboot."""
    if isinstance(error, ImportError):
        return LIBRARY_NOT_FOUND, f"jetson-stats cannot be imported: {error}."
    if isinstance(error, Unchanging):
        return TIMEOUT, str(error)
    if isinstance(error, PermissionError) or isinstance(error.__context__, PermissionError):
        return (
            NO_PERMISSION,
            f"No permission for {where}: join its group, jtop; who is in it may act as root.",
        )
    words = " ".join(str(error).split()) or type(error).__name__
    return _UNEXPECTED, f"jetson-stats fails at {where}: {words}"


def _failed(code: int, reason: str) -> Connection:
    return Connection({"kind": "failed", "code": code, "reason": reason}, None)


def _refused(code: int, reason: str) -> dict[str, object]:
    return {"kind": "sample", "code": code, "reason": reason}
