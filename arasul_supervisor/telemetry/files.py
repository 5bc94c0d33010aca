"""Small reads below a root that stands for `/`: text or None, bounded in size, never waiting for a writer."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

MAX_BYTES: Final = 1024 * 1024  # /proc/stat of a machine with 512 processors is about 60 KiB


def read_text(path: Path) -> str | None:
    """What the file says, without surrounding blanks and NUL bytes; None when it cannot be read now.

    Opened with O_NONBLOCK and read with `os.read`: a gated thermal zone answers EAGAIN, which the text layer of
    Python turns into a TypeError (facts/gpu.md §4.1), and a FIFO in its place must not hang the reader.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    chunks: list[bytes] = []
    size = 0
    try:
        while size < MAX_BYTES and (chunk := os.read(fd, 65536)):
            chunks.append(chunk)
            size += len(chunk)
    except OSError:
        return None
    finally:
        os.close(fd)
    return b"".join(chunks).decode("utf-8", "replace").strip("\0 \t\r\n")


def read_int(path: Path) -> int | None:
    """The whole number in the file; None when there is none."""
    text = read_text(path)
    try:
        return int(text) if text else None
    except ValueError:
        return None
