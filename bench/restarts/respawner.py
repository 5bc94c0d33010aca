"""`python respawner.py COMMAND…`: the floor. Starts the command again when it dies, by a pidfd in an asyncio loop, and
does nothing else: no group is killed, nothing is logged, nobody is asked.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys


def spawn(loop: asyncio.AbstractEventLoop, command: list[str]) -> None:
    """Start it, and again at each death."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    process.returncode = 0  # reaped below, never by Popen
    pidfd = os.pidfd_open(process.pid)

    def respawn() -> None:
        loop.remove_reader(pidfd)
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
        os.close(pidfd)
        spawn(loop, command)

    loop.add_reader(pidfd, respawn)


async def main(command: list[str]) -> None:
    """Run until a signal ends it."""
    spawn(asyncio.get_running_loop(), command)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
