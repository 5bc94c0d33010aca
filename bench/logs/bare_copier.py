"""`bare_copier.py SOURCE TARGET`: copies a log and counts the lines with `error`, as a script of ten lines would.

Prints the seconds that it took: what the machine does at this moment with one core and an interpreter.
"""

from __future__ import annotations

import os
import sys
import time

BLOCK_BYTES = 512 * 1024


def main() -> None:
    """Copy the file from its beginning to its end."""
    source = os.open(sys.argv[1], os.O_RDONLY)
    target = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    began_s, n_errors, rest = time.monotonic(), 0, b""
    while block := os.read(source, BLOCK_BYTES):
        lines, newline, rest = (rest + block).rpartition(b"\n")
        for line in lines.split(b"\n"):
            if b"error" in line.lower():
                n_errors += 1
        os.write(target, lines + newline)
    print(time.monotonic() - began_s, n_errors)


if __name__ == "__main__":
    main()
