"""A small file that is seen whole or not at all, and that only we may read. Blocks as the disk does."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

FRESH_SUFFIX: Final = ".new"


def write_whole(path: Path, content: bytes, *, is_durable: bool = False) -> None:
    """Write a file of ours (0600), beside the old one first.

    :param is_durable: through a power cut too, which may take seconds on a busy card; else one may leave it empty
    :raises OSError: it cannot be written; what was there stays
    """
    fresh = path.with_name(path.name + FRESH_SUFFIX)
    try:
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(content)
            if is_durable:
                file.flush()
                os.fsync(file.fileno())
        fresh.replace(path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise
    if is_durable:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
