"""`run`: the daemon itself."""

from __future__ import annotations

import faulthandler
import gc
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from arasul_supervisor.cli.output import Subparsers


def add_parser(subparsers: Subparsers) -> None:
    """Adds the command."""
    summary = "start Ollama, keep it alive, and serve the management API until told to stop"
    subparsers.add_parser(
        "run",
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog="Exit codes: 0 asked to stop, 2 bad settings, 70 gave up, 71 cannot run here, "
        "72 the GPU comes back only with a new container.",
    )


def run(args: argparse.Namespace) -> int:
    """Runs until a signal or the restart policy ends it."""
    from arasul_supervisor.held_back import hold_back
    from arasul_supervisor.process_ground import (
        EarlySignals,
        open_missing_standard_descriptors,
        share_one_heap,
    )

    gc.disable()  # the launch leaves no garbage to speak of; the daemon turns it on again
    hold_back()
    share_one_heap()
    open_missing_standard_descriptors()
    faulthandler.enable(2)  # so that a watchdog's SIGABRT shows where the loop was stuck
    early = EarlySignals()
    early.install()

    from arasul_supervisor.app import run as run_daemon  # 100 ms, in which a request to end must not be lost

    return run_daemon(os.environ, early)
