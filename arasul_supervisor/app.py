"""The launch: settings, lock, management port, the engine's first start, and only then all the rest (CONTRACT §3)."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from arasul_supervisor import management_port
from arasul_supervisor.clock import SystemClock
from arasul_supervisor.errors import CannotRunHere
from arasul_supervisor.first_start import EXIT_ASKED, EXIT_CANNOT_RUN, FirstStart
from arasul_supervisor.logs.daemon_log import DaemonLog
from arasul_supervisor.ollama.environment import load_checked_settings
from arasul_supervisor.process_ground import (
    end_with_supervisord,
    keep_descriptors_to_ourselves,
    raise_descriptor_limit,
)
from arasul_supervisor.settings import SettingsError, warnings_for
from arasul_supervisor.supervision.lock import StateLock

if TYPE_CHECKING:
    from collections.abc import Mapping

    from arasul_supervisor.process_ground import EarlySignals

EXIT_SETTINGS: Final = 2

_NO_ENGINE: Final = (
    "No Ollama was found on PATH. Install it (https://ollama.com/download), set ARASUL_OLLAMA to its program, "
    "or type `make ollama` in a checkout of this project."
)


def run(environ: Mapping[str, str], early: EarlySignals) -> int:
    """Run the daemon until it is told to end; the exit code of the contract (§3).

    :param early: what was asked while the daemon's modules were imported
    """
    keep_descriptors_to_ourselves()
    raise_descriptor_limit()
    end_with_supervisord(environ)
    try:
        settings = load_checked_settings(environ)
    except SettingsError as error:
        sys.stderr.write(f"arasul-supervisor: {error.sentence}\n")
        return EXIT_SETTINGS
    clock = SystemClock()
    log = DaemonLog(clock)
    for warning in warnings_for(environ):
        log.warning("unknown_setting", warning=warning)
    lock = StateLock(settings.state_dir)
    try:
        lock.take()
        sock = management_port.listen(settings.host, settings.port)
        if settings.engine_binary is None:
            raise CannotRunHere(_NO_ENGINE)
        first = FirstStart(settings, environ, early=early, clock=clock, log=log)
        first.make()
    except CannotRunHere as error:
        log.flush_plain()
        sys.stderr.write(f"arasul-supervisor: {error.sentence}\n")
        return EXIT_CANNOT_RUN
    except OSError as error:
        log.exception("launch_failed", error)
        log.flush_plain()
        return EXIT_CANNOT_RUN
    if early.asked is not None and first.started is None:
        return EXIT_ASKED
    import asyncio

    from arasul_supervisor.daemon import Daemon  # with asyncio 60 ms, which the engine does not wait for

    return asyncio.run(Daemon(settings, environ, sock, first=first, early=early, clock=clock, log=log).main())
