"""A program of its own: opens device nodes one by one and says how each went.

Run by path: `python -I open_program.py UID GID GID,GID,… PATH…`; the first three are empty to stay who we are. A line
before each open, so that the one that hangs is known, and a line with the error's number after it:

    {"path":"/dev/nvidiactl"}
    {"path":"/dev/nvidiactl","errno":0}
"""

from __future__ import annotations

import json
import os
import sys


def main() -> int:
    """Open them all, as the user who is named."""
    uid, gid, groups, *paths = sys.argv[1:]
    if uid:
        os.setgroups([int(number) for number in groups.split(",") if number])
        os.setgid(int(gid))
        os.setuid(int(uid))
    for path in paths:
        _say({"path": path})
        try:
            os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))
        except OSError as error:
            _say({"path": path, "errno": error.errno})
        else:
            _say({"path": path, "errno": 0})
    return 0


def _say(line: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
