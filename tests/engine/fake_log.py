"""What the fake engine writes: lines in the shape of Ollama's own."""

from __future__ import annotations

import errno
import os
import time

GOROUTINES = (
    "panic: runtime error: invalid memory address or nil pointer dereference\n"
    "[signal SIGSEGV: segmentation violation code=0x1 addr=0x0 pc=0x0]\n\n"
    "goroutine 1 [running]:\nmain.main()\n\t/go/src/main.go:12 +0x1d\nexit status 2\n"
)


def say(text: str, *, stream: str = "stderr") -> None:
    """Write to the engine's log in one write; what a full disk does not take is lost, as with Ollama."""
    try:
        os.write(1 if stream == "stdout" else 2, text.encode())
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise


def log(rest: str, *, level: str = "INFO") -> None:
    """One line of the server: `source=… msg="…" key=value`."""
    now = time.time()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
    say(f"time={stamp}.{int(now * 1000) % 1000:03d}Z level={level} {rest}\n")
