"""What a child of ours stands on: how it speaks, and that it dies with the daemon. Imports little: it is memory."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h
_MOST_FDS: Final = 65536


def stand_alone(parent_pid: int) -> None:
    """Hold nothing of the daemon but stdin and stdout, and end with it, however it ends.

    A call that hangs cannot see the end of stdin, hence the signal as well. It is set first, then compared.
    """
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:
        sys.exit(1)
    os.closerange(3, _MOST_FDS)
    os.chdir("/")
    _keep_stdout_to_ourselves()


def say(line: Mapping[str, object]) -> None:
    """Write one line of JSON."""
    try:
        sys.stdout.write(json.dumps(line, separators=(",", ":")) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        os._exit(0)  # the daemon closed its end; a normal exit would fail once more at the last flush


def _keep_stdout_to_ourselves() -> None:
    """Whatever a library prints goes to /dev/null, as our stderr does, not between our lines."""
    sys.stdout = open(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
