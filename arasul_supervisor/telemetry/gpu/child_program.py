"""The program of every child that asks for GPU figures: one JSON line for each line on stdin.

    python -I child_program.py SOURCE PARENT_PID FOLDER_OF_THIS_PACKAGE ARGUMENT…

SOURCE names the module `collect_SOURCE` beside this one. A call that hangs in a driver or in the board's firmware can
only be abandoned together with its process (facts/gpu.md §3.5).
"""

from __future__ import annotations

import sys
import time
from importlib import import_module
from typing import Any


def main() -> int:
    """Speak with the source until stdin ends."""
    source, parent_pid, folder, *arguments = sys.argv[1:]
    sys.path.append(folder)
    ground: Any = import_module("arasul_supervisor.line_child.ground")  # Any: by name, as below
    ground.stand_alone(int(parent_pid))
    collector: Any = import_module(f"arasul_supervisor.telemetry.gpu.collect_{source}")
    connection = collector.connect(arguments)
    ground.say(connection.hello)
    if connection.sample is None:
        return 1
    while sys.stdin.readline():
        ground.say(connection.sample(time.monotonic()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
