"""Small reads below a root that stands for `/`: text or None, bounded in size, never waiting for a writer."""

from __future__ import annotations

import errno
import os
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

MAX_NAME: Final = 256  # sysfs gives at most a page, of which a board has hundreds
_WHOLE: Final = re.compile(r"[+-]?[0-9]{1,20}")
MAX_BYTES: Final = 1024 * 1024  # /proc/stat of a machine with 512 processors is about 60 KiB


def read_text(path: Path) -> str | None:
    """What the file says, without surrounding blanks and NUL bytes; None when it cannot be read now."""
    return read_or_errno(path)[0]


def read_name(path: Path) -> str | None:
    """As `read_text`, of what names something; None, too, for a text that is too long to be a name."""
    text = read_text(path)
    return text if text is None or len(text) <= MAX_NAME else None


def read_or_errno(path: Path) -> tuple[str | None, int]:
    """The text and 0, or None and the number of the error that kept us from it.

    Opened with O_NONBLOCK and read with `os.read`: a gated thermal zone answers EAGAIN, which the text layer of
    Python turns into a TypeError (facts/gpu.md §4.1), and a FIFO in its place must not hang the reader.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        return None, error.errno or errno.EIO
    except ValueError:  # a name that came from a file, with a NUL byte in it
        return None, errno.ENOENT
    chunks: list[bytes] = []
    size = 0
    try:
        while size < MAX_BYTES and (chunk := os.read(fd, 65536)):
            chunks.append(chunk)
            size += len(chunk)
    except OSError as error:
        return None, error.errno or errno.EIO
    finally:
        os.close(fd)
    return b"".join(chunks).decode("utf-8", "replace").strip("\0 \t\r\n"), 0


def read_int(path: Path) -> int | None:
    """The whole number in the file; None when there is none."""
    return to_int(read_text(path))


def to_int(text: str | None) -> int | None:
    """The whole number that the text is, as the kernel writes one; None when it is none, or of more than 20 digits."""
    return int(text) if text and _WHOLE.fullmatch(text) else None


def names_in(folder: Path) -> list[str]:
    """What lies in the folder, in a steady order; empty where there is no such folder, or none to see."""
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []
